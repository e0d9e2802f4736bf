//! The forms rows come in, found from the fields they have, and what each form means.

use serde_json::{Map, Value};
use types::{
    Message, Role, Strategy, Task,
    dataset::{RowError, RowForm},
};

use crate::{
    example::Example,
    source::{Row, kind_of},
};

/// Every form, a richer one before one whose fields it includes.
const ALL: &[RowForm] = &[
    RowForm::Messages,
    RowForm::ShareGpt,
    RowForm::Preference,
    RowForm::ContextQuestionAnswer,
    RowForm::Squad,
    RowForm::Alpaca,
    RowForm::InputOutput,
    RowForm::DocumentSummary,
];

/// The fields a row of a form must have.
pub fn required_fields(form: RowForm) -> &'static [&'static str] {
    match form {
        RowForm::InputOutput => &["input", "output"],
        RowForm::DocumentSummary => &["document", "summary"],
        RowForm::ContextQuestionAnswer => &["context", "question", "answer"],
        RowForm::Squad => &["context", "question", "answers"],
        RowForm::Messages => &["messages"],
        RowForm::ShareGpt => &["conversations"],
        RowForm::Alpaca => &["instruction", "output"],
        RowForm::Preference => &["prompt", "chosen", "rejected"],
    }
}

/// A form's fields for a sentence: `input and output`.
pub(crate) fn fields_of(form: RowForm) -> String {
    let fields = required_fields(form);
    match fields.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => fields.concat(),
    }
}

/// The forms that a task can be trained on with a strategy, the strategy's and the task's own first. With rlhf, rows of single
/// answers give prompts, and answers to compare the model's with.
pub fn fitting_forms(task: Task, strategy: Strategy) -> Vec<RowForm> {
    let pairs: &[RowForm] = if strategy.is_supervised() { &[] } else { &[RowForm::Preference] };
    if strategy == Strategy::Dpo {
        return pairs.to_vec();
    }
    let own: &[RowForm] = match task {
        Task::TextGeneration => &[RowForm::Alpaca, RowForm::InputOutput],
        Task::Summarization => &[RowForm::DocumentSummary, RowForm::Alpaca, RowForm::InputOutput],
        Task::ExtractiveQuestionAnswering => {
            &[RowForm::ContextQuestionAnswer, RowForm::Squad, RowForm::Alpaca]
        }
    };
    [pairs, own, &[RowForm::Messages, RowForm::ShareGpt]].concat()
}

fn has(values: &Map<String, Value>, field: &str) -> bool {
    values.get(field).is_some_and(|value| !value.is_null())
}

fn is_of(values: &Map<String, Value>, form: RowForm) -> bool {
    required_fields(form).iter().all(|field| has(values, field))
}

/// The form whose every field the row has: one of `fitting` if possible, else any.
pub(crate) fn detect(values: &Map<String, Value>, fitting: &[RowForm]) -> Option<RowForm> {
    fitting.iter().chain(ALL).copied().find(|&form| is_of(values, form))
}

/// The form of `fitting` that the row has the most fields of; none where it has none.
pub(crate) fn nearest(values: &Map<String, Value>, fitting: &[RowForm]) -> Option<RowForm> {
    let count =
        |form: &RowForm| required_fields(*form).iter().filter(|field| values.contains_key(**field)).count();
    let best = fitting.iter().map(count).max().filter(|&most| most > 0)?;
    fitting.iter().copied().find(|form| count(form) == best)
}

impl Example {
    /// What a row means by the fields it has, whatever it is to be used for.
    ///
    /// # Errors
    /// A row of no known form, and every field that is missing, of the wrong type or blank.
    pub fn from_row(row: &Row) -> Result<Self, Vec<RowError>> {
        match detect(&row.values, ALL).or_else(|| nearest(&row.values, ALL)) {
            Some(form) => parse(row, form),
            None => Err(vec![row.error(None, "has none of the fields a row needs")]),
        }
    }
}

/// What the row means.
///
/// # Errors
/// Every field that is missing, of the wrong type or blank.
pub(crate) fn parse(row: &Row, form: RowForm) -> Result<Example, Vec<RowError>> {
    let mut fields = Fields { row, errors: Vec::new() };
    if !is_of(&row.values, form)
        && let Some(other) = detect(&row.values, &[]).filter(|&other| other != form)
    {
        let (has, others) = (fields_of(other), fields_of(form));
        let message =
            format!("has the fields {has}, while the rows before have {others}; a dataset has one form");
        return Err(vec![row.error(None, message)]);
    }
    let example = match form {
        RowForm::InputOutput => pair(fields.text("input"), fields.text("output")),
        RowForm::DocumentSummary => pair(fields.text("document"), fields.text("summary")),
        RowForm::Alpaca => {
            let (instruction, output) = (fields.text("instruction"), fields.text("output"));
            alpaca(instruction, fields.optional_text("input"), output)
        }
        RowForm::ContextQuestionAnswer => {
            let answer = fields.text("answer");
            question(fields.text("context"), fields.text("question"), answer.map(|a| (vec![a], None)))
        }
        RowForm::Squad => question(fields.text("context"), fields.text("question"), fields.answers()),
        RowForm::Messages => fields.conversation("messages", "role", "content").map(chat),
        RowForm::ShareGpt => fields.conversation("conversations", "from", "value").map(chat),
        RowForm::Preference => fields.preference(),
    };
    match example {
        Some(example) if fields.errors.is_empty() => Ok(example),
        _ => Err(fields.errors),
    }
}

fn pair(input: Option<String>, output: Option<String>) -> Option<Example> {
    Some(Example::Pair { input: input?, output: output? })
}

fn question(
    context: Option<String>,
    question: Option<String>,
    answers: Option<(Vec<String>, Option<usize>)>,
) -> Option<Example> {
    let (answers, start) = answers?;
    Some(Example::Question { context: context?, question: question?, answers, start })
}

fn chat(messages: Vec<Message>) -> Example {
    Example::Chat { messages }
}

fn alpaca(instruction: Option<String>, input: Option<String>, output: Option<String>) -> Option<Example> {
    let prompt = match input.filter(|text| !text.trim().is_empty()) {
        Some(input) => format!("{}\n\n{input}", instruction?),
        None => instruction?,
    };
    Some(chat(vec![Message::user(prompt), Message::assistant(output?)]))
}

/// Takes fields out of a row and notes every one that is wrong.
struct Fields<'a> {
    row: &'a Row,
    errors: Vec<RowError>,
}

impl<'a> Fields<'a> {
    fn wrong(&mut self, field: &str, message: String) {
        self.errors.push(self.row.error(Some(field), message));
    }

    fn required(&mut self, field: &str) -> Option<&'a Value> {
        let value = self.row.values.get(field).filter(|value| !value.is_null());
        if value.is_none() {
            self.wrong(field, format!("missing field \"{field}\""));
        }
        value
    }

    fn as_text(&mut self, path: &str, value: &'a Value) -> Option<&'a str> {
        match value.as_str() {
            Some(text) if text.trim().is_empty() => {
                self.wrong(path, format!("field \"{path}\" is empty"));
                None
            }
            Some(text) => Some(text),
            None => {
                self.wrong(path, format!("field \"{path}\" must be text, not {}", kind_of(value)));
                None
            }
        }
    }

    fn text(&mut self, field: &str) -> Option<String> {
        let value = self.required(field)?;
        self.as_text(field, value).map(str::to_owned)
    }

    fn optional_text(&mut self, field: &str) -> Option<String> {
        match self.row.values.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.wrong(field, format!("field \"{field}\" must be text, not {}", kind_of(other)));
                None
            }
        }
    }

    /// SQuAD's `{"text": [...], "answer_start": [...]}`, without any text where there is no answer; a plain list of texts will
    /// do. With the place of the first.
    fn answers(&mut self) -> Option<(Vec<String>, Option<usize>)> {
        let value = self.required("answers")?;
        let (path, texts, starts) = match value {
            Value::Object(answers) => ("answers.text", answers.get("text"), answers.get("answer_start")),
            other => ("answers", Some(other), None),
        };
        let Some(Value::Array(texts)) = texts else {
            let message = "field \"answers\" must be {\"text\": [\"…\"], \"answer_start\": [0]}".to_owned();
            self.wrong("answers", message);
            return None;
        };
        let start = match starts.and_then(Value::as_array).and_then(|starts| starts.first()) {
            None => None,
            Some(start) => match start.as_u64().and_then(|start| usize::try_from(start).ok()) {
                Some(start) => Some(start),
                None => {
                    let message =
                        format!("field \"answers.answer_start\" must hold whole numbers, not {start}");
                    self.wrong("answers.answer_start", message);
                    return None;
                }
            },
        };
        let texts: Vec<_> = texts.iter().map(|text| self.as_text(path, text)).collect();
        let texts = texts.into_iter().map(|text| text.map(str::to_owned)).collect::<Option<_>>()?;
        Some((texts, start))
    }

    /// A conversation that can be trained: ends with the assistant, after at least one turn of the person.
    fn conversation(&mut self, field: &str, who: &str, what: &str) -> Option<Vec<Message>> {
        let value = self.required(field)?;
        let messages = self.messages(field, value, who, what)?;
        self.check_order(field, &messages)?;
        Some(messages)
    }

    fn check_order(&mut self, field: &str, messages: &[Message]) -> Option<()> {
        let late_system = messages.iter().skip(1).position(|m| m.role == Role::System);
        let last_is_answer = messages.last().is_some_and(|m| m.role == Role::Assistant);
        let first_answer = messages.iter().position(|m| m.role == Role::Assistant);
        let first_user = messages.iter().position(|m| m.role == Role::User);
        let problem = if messages.is_empty() {
            format!("field \"{field}\" is empty")
        } else if let Some(at) = late_system {
            format!("field \"{field}[{}]\" is a system message, which can only come first", at + 1)
        } else if !last_is_answer {
            format!("field \"{field}\" must end with a message of the assistant, which is what is trained")
        } else if first_user.is_none_or(|user| first_answer.is_some_and(|answer| answer < user)) {
            format!("field \"{field}\" needs a message of the user before the assistant's")
        } else {
            return Some(());
        };
        self.wrong(field, problem);
        None
    }

    fn messages(&mut self, field: &str, value: &'a Value, who: &str, what: &str) -> Option<Vec<Message>> {
        let Value::Array(list) = value else {
            let message = format!(
                "field \"{field}\" must be a list of {{\"{who}\": …, \"{what}\": …}}, not {}",
                kind_of(value)
            );
            self.wrong(field, message);
            return None;
        };
        let mut messages = Vec::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            let path = format!("{field}[{i}]");
            let Value::Object(item) = item else {
                self.wrong(&path, format!("field \"{path}\" must be an object, not {}", kind_of(item)));
                continue;
            };
            let role = self.part(item, &path, who);
            let role = role.and_then(|role| self.role(&format!("{path}.{who}"), role));
            let content = self.part(item, &path, what);
            if let (Some(role), Some(content)) = (role, content) {
                messages.push(Message { role, content: content.to_owned() });
            }
        }
        (messages.len() == list.len()).then_some(messages)
    }

    fn part(&mut self, item: &'a Map<String, Value>, path: &str, name: &str) -> Option<&'a str> {
        let path = format!("{path}.{name}");
        match item.get(name).filter(|value| !value.is_null()) {
            Some(value) => self.as_text(&path, value),
            None => {
                self.wrong(&path, format!("missing field \"{path}\""));
                None
            }
        }
    }

    fn role(&mut self, path: &str, name: &str) -> Option<Role> {
        match name {
            "system" => Some(Role::System),
            "user" | "human" => Some(Role::User),
            "assistant" | "gpt" => Some(Role::Assistant),
            _ => {
                let known = "system, user (human) and assistant (gpt)";
                self.wrong(path, format!("field \"{path}\" is \"{name}\"; known are {known}"));
                None
            }
        }
    }

    /// Text, or a list of messages, in each of the three fields; `chosen` and `rejected` may repeat the prompt.
    fn preference(&mut self) -> Option<Example> {
        let prompt = self.side("prompt", Role::User);
        let chosen = self.side("chosen", Role::Assistant);
        let rejected = self.side("rejected", Role::Assistant);
        let (prompt, chosen, rejected) = (prompt?, chosen?, rejected?);
        let chosen = without_prompt(&prompt, chosen);
        let rejected = without_prompt(&prompt, rejected);
        self.check_order("chosen", &[prompt.as_slice(), &chosen].concat())?;
        self.check_order("rejected", &[prompt.as_slice(), &rejected].concat())?;
        if chosen == rejected {
            self.wrong("rejected", "field \"rejected\" is the same as \"chosen\"".to_owned());
            return None;
        }
        Some(Example::Preference { prompt, chosen, rejected })
    }

    fn side(&mut self, field: &str, role: Role) -> Option<Vec<Message>> {
        match self.required(field)? {
            value @ Value::Array(_) => self.messages(field, value, "role", "content"),
            value => {
                let content = self.as_text(field, value)?.to_owned();
                Some(vec![Message { role, content }])
            }
        }
    }
}

/// Some datasets write the whole conversation into `chosen` and `rejected`.
fn without_prompt(prompt: &[Message], answer: Vec<Message>) -> Vec<Message> {
    if answer.iter().all(|m| m.role == Role::Assistant) {
        return answer;
    }
    match answer.strip_prefix(prompt) {
        Some(rest) => rest.to_vec(),
        None => answer,
    }
}
