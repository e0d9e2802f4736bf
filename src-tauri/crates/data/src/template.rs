//! The model's chat template: jinja as transformers runs it, bounded so that a hostile one ends.
//!
//! Sources, in this order: `chat_template.jinja`, `chat_template` in `tokenizer_config.json`, [`PLAIN`]. Tools and
//! documents are not passed; `{% generation %}` blocks are read as plain text around the answer.

use std::path::Path;

use jiff::{ZonedDateTime, fmt::strtime};
use minijinja::{
    Environment, Error, ErrorKind, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};
use serde_json::Value as Json;
use types::{Message, Role};

use crate::error::DataError;

/// The layout used where a model brings no template: a heading for each turn, and the end-of-sequence token after each
/// answer.
pub const PLAIN: &str = "{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n\n\
    {% elif message.role == 'user' %}### User:\n{{ message.content }}\n\n\
    {% else %}### Assistant:\n{{ message.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}### Assistant:\n{% endif %}";

/// Longer templates are refused.
const MAX_SOURCE: usize = 1 << 20;
/// Longer results are refused, beyond eight times the conversation's own text.
const MAX_OUTPUT: usize = 16 << 20;
/// Instructions a rendering may take, beyond some for each byte of the conversation.
const FUEL: u64 = 2_000_000;

const NAME: &str = "chat_template";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    file: String,
    variables: Vec<(String, Value)>,
}

impl ChatTemplate {
    /// The template of the model in `dir`, whose parsed `tokenizer_config.json` is `config`; none where it has none.
    ///
    /// # Errors
    /// A template that cannot be read, is too long or is not jinja.
    pub(crate) fn load(
        dir: &Path,
        config: &Json,
        variables: &[(String, String)],
    ) -> Result<Option<Self>, DataError> {
        let path = dir.join("chat_template.jinja");
        if path.exists() {
            let bytes = crate::model_files::read(&path, MAX_SOURCE as u64)?;
            let source = String::from_utf8(bytes).map_err(|_| DataError::model_file(&path, "not UTF-8"))?;
            return Self::new(&source, &path.display().to_string(), variables).map(Some);
        }
        let path = dir.join("tokenizer_config.json");
        let source = match config.get("chat_template") {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(source)) => source,
            Some(Json::Array(named)) => named
                .iter()
                .find(|t| t.get("name").and_then(Json::as_str) == Some("default"))
                .and_then(|t| t.get("template")?.as_str())
                .ok_or_else(|| {
                    DataError::model_file(&path, "chat_template has no template named \"default\"")
                })?,
            Some(_) => {
                return Err(DataError::model_file(
                    &path,
                    "chat_template must be text or a list of named templates",
                ));
            }
        };
        Self::new(source, &format!("{} (chat_template)", path.display()), variables).map(Some)
    }

    /// Compiles a template; `file` names it in errors, `variables` are such as `bos_token`.
    ///
    /// # Errors
    /// A template that is too long or is not jinja.
    pub fn new(source: &str, file: &str, variables: &[(String, String)]) -> Result<Self, DataError> {
        if source.len() > MAX_SOURCE {
            let message = format!("the chat template is longer than {MAX_SOURCE} bytes");
            return Err(DataError::Template { file: file.into(), line: 1, message });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| located(file, &e))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            strtime::format(&format, &ZonedDateTime::now())
                .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
        });
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|e| located(file, &e))?;
        let variables = variables.iter().map(|(name, text)| (name.clone(), Value::from(text))).collect();
        Ok(Self { environment, source: source.into(), file: file.into(), variables })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text the model sees; `add_generation_prompt` asks for the start of the assistant's next turn.
    ///
    /// # Errors
    /// [`DataError::Template`]: the template refuses the conversation, is faulty, or does not end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        let length: usize = messages.iter().map(|m| m.content.len() + 64).sum();
        let turns: Value = messages
            .iter()
            .map(|m| Value::from_pairs([("role", role_name(m.role)), ("content", m.content.as_str())]))
            .collect();
        let mut context = vec![
            ("messages".to_owned(), turns),
            ("add_generation_prompt".to_owned(), Value::from(add_generation_prompt)),
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
        ];
        context.extend(self.variables.iter().cloned());

        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + 16 * length as u64));
        let template = environment.get_template(NAME).map_err(|e| located(&self.file, &e))?;
        let mut output = Bounded { bytes: Vec::new(), limit: MAX_OUTPUT + 8 * length };
        template
            .render_captured_to(Value::from_pairs(context), &mut output)
            .map_err(|e| located(&self.file, &e))?;
        String::from_utf8(output.bytes).map_err(|_| DataError::Template {
            file: self.file.clone(),
            line: 1,
            message: "the template's output is not UTF-8".into(),
        })
    }
}

/// A role as templates know it.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

fn located(file: &str, error: &Error) -> DataError {
    let message = match error.kind() {
        ErrorKind::OutOfFuel => "the chat template does not end, or takes far too long".to_owned(),
        ErrorKind::WriteFailure => "the chat template writes far more than the conversation holds".to_owned(),
        ErrorKind::InvalidOperation => error.detail().unwrap_or("invalid operation").to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    DataError::Template { file: file.into(), line: error.line().unwrap_or(1), message }
}

/// transformers marks the assistant's tokens with `{% generation %}`…`{% endgeneration %}`; jinja itself has no such
/// block, and one that is always rendered keeps the text and its white space.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let name = tag.trim_start_matches("{%").trim_end_matches("%}");
        match name.trim_matches(['-', '+']).trim() {
            word @ ("generation" | "endgeneration") => {
                let replacement = if word == "generation" { "if true" } else { "endif" };
                result.push_str(&tag.replacen(word, replacement, 1));
            }
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

/// Stops a template that writes without end.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + piece.len() > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `json.dumps(value, ensure_ascii=False, …)`, which transformers puts in place of jinja's HTML-safe filter.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut writer = PythonJson {
        out: String::new(),
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
        indent: indent.map(|n| n.min(16)),
        item,
        key,
    };
    writer.write(value, 0)?;
    Ok(writer.out)
}

struct PythonJson {
    out: String,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<usize>,
    item: String,
    key: String,
}

impl PythonJson {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > 64 {
            return Err(Error::new(ErrorKind::BadSerialization, "nested deeper than 64 levels"));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', items.len(), depth, |writer, i| match items.get(i) {
                    Some(item) => writer.write(item, depth + 1),
                    None => Ok(()),
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.container('{', '}', keys.len(), depth, |writer, i| {
                    let Some(key) = keys.get(i) else { return Ok(()) };
                    writer.string(&key.to_string());
                    writer.out.push_str(&writer.key.clone());
                    writer.write(&value.get_item(key)?, depth + 1)
                })?;
            }
            _ => self.string(&value.to_string()),
        }
        Ok(())
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        count: usize,
        depth: usize,
        mut write: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for i in 0..count {
            if i > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.new_line(depth + 1);
            write(self, i)?;
        }
        if count > 0 {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
