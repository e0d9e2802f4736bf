//! The tokenizer as llama.cpp has it: tokens by id, what kind each is, and how text is cut into them.

use std::{collections::HashMap, path::Path};

use serde_json::Value;

use crate::{error::DataError, model_files, tokenizer::Tokenizer};

/// The largest published tokenizers have about 35 MB.
const MAX_TOKENIZER: u64 = 256 << 20;

/// How text is cut into tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Cutting {
    /// Byte-level BPE (`gpt2` there).
    Bytes {
        /// llama.cpp's name of what text is split by first.
        pre: &'static str,
        /// Pairs of tokens, separated by a space, the first merged first.
        merges: Vec<String>,
    },
    /// BPE on characters with tokens for single bytes (`llama` there).
    Characters {
        /// By id: of two merges, that into the token with the higher score comes first.
        scores: Vec<f32>,
        /// Whether a text begins as if after a space.
        space_prefix: bool,
    },
}

/// What a token is, with llama.cpp's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for what there is no token for.
    Unknown = 2,
    /// Never text, such as the end of a turn.
    Control = 3,
    /// Text that is never cut.
    UserDefined = 4,
    /// An id that nothing has.
    Unused = 5,
    /// A single byte.
    Byte = 6,
}

/// Tokens by id and all that is to be known about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The text of each, as the tokenizer spells it.
    pub tokens: Vec<String>,
    /// What each is.
    pub kinds: Vec<TokenKind>,
    /// How text becomes tokens.
    pub cutting: Cutting,
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: u32,
    /// Ends a turn, where that is another one.
    pub eot: Option<u32>,
    /// Stands for what there is no token for.
    pub unknown: Option<u32>,
    /// Whether every text begins with `bos`.
    pub adds_bos: bool,
    /// The chat template in force.
    pub chat_template: String,
}

/// What Llama 3 splits text by.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What Qwen 2 splits text by.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Tokenizer {
    /// The vocabulary of the tokenizer in `dir`, which is this one, with `size` ids: those that no token has are unused.
    ///
    /// # Errors
    /// A tokenizer of a kind that llama.cpp has no name for, and one with more than `size` ids.
    pub fn vocabulary(&self, dir: &Path, size: usize) -> Result<Vocabulary, DataError> {
        let path = dir.join("tokenizer.json");
        let wrong = |message: String| DataError::model_file(&path, message);
        let json: Value = serde_json::from_slice(&model_files::read(&path, MAX_TOKENIZER)?)
            .map_err(|e| wrong(e.to_string()))?;
        if self.vocab_size() > size {
            let known = self.vocab_size();
            return Err(wrong(format!("it knows {known} tokens but the model only {size}")));
        }
        let model = json.get("model").unwrap_or(&Value::Null);
        if model.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "BPE") {
            return Err(wrong(format!(
                "tokenizers of the kind {} cannot be exported to GGUF; BPE can",
                model["type"]
            )));
        }
        let merges = merges(model).ok_or_else(|| wrong("its merges are not pairs of texts".into()))?;
        let by_id = self.texts();
        let unknown = model.get("unk_token").and_then(Value::as_str);
        let has_bytes = model.get("byte_fallback").and_then(Value::as_bool) == Some(true);

        let (mut tokens, mut kinds) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for id in 0..size {
            let text = u32::try_from(id).ok().and_then(|id| by_id.get(&id));
            kinds.push(match text {
                None => TokenKind::Unused,
                Some(text) if unknown == Some(text.as_str()) => TokenKind::Unknown,
                Some(text) if has_bytes && is_byte(text) => TokenKind::Byte,
                Some(text) => self.kind(id as u32, text),
            });
            tokens.push(text.cloned().unwrap_or_else(|| format!("[PAD{id}]")));
        }
        let cutting = if has_bytes {
            Cutting::Characters { scores: scores(&tokens, &merges), space_prefix: prefixes_space(&json) }
        } else {
            let pre = splitting(&json).ok_or_else(|| {
                wrong(
                    "llama.cpp has no name for its pre_tokenizer; those of GPT-2, SmolLM, Llama 3 and Qwen 2 can be \
                     exported to GGUF. Export as safetensors instead"
                        .into(),
                )
            })?;
            Cutting::Bytes { pre, merges: merges.into_iter().map(|(a, b)| format!("{a} {b}")).collect() }
        };
        let unknown =
            tokens.iter().zip(0..).find(|(text, _)| unknown == Some(text.as_str())).map(|(_, id)| id);
        let (eos, turn_end) = self.ends();
        Ok(Vocabulary {
            tokens,
            kinds,
            cutting,
            bos: self.bos_id(),
            eos,
            eot: turn_end.filter(|&id| id != eos),
            unknown,
            adds_bos: self.adds_bos(),
            chat_template: self.template().source().to_owned(),
        })
    }

    /// Of a token that is no byte and not the unknown one.
    fn kind(&self, id: u32, text: &str) -> TokenKind {
        let control = |text: &str| {
            text.starts_with("<|") && text.ends_with("|>") || text == "<pad>" || text == "<mask>"
        };
        match self.added(id) {
            Some(special) if special || control(text) => TokenKind::Control,
            Some(_) => TokenKind::UserDefined,
            None => TokenKind::Normal,
        }
    }
}

/// Pairs are written as `"a b"`, or as `["a", "b"]`, whose parts may hold spaces.
fn merges(model: &Value) -> Option<Vec<(String, String)>> {
    let pair = |value: &Value| match value {
        Value::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    };
    model.get("merges")?.as_array()?.iter().map(pair).collect()
}

/// `<0x0A>`.
fn is_byte(text: &str) -> bool {
    text.strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A token's score is minus the rank of the first merge that makes it, as in the vocabularies of SentencePiece.
fn scores(tokens: &[String], merges: &[(String, String)]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, (a, b)) in merges.iter().enumerate() {
        ranks.entry(format!("{a}{b}")).or_insert(rank);
    }
    tokens.iter().map(|token| ranks.get(token).map_or(0.0, |&rank| -(rank as f32))).collect()
}

/// Whether a space comes before the first word: by the normalizer, or by the pre-tokenizer.
fn prefixes_space(json: &Value) -> bool {
    let parts = |field: &str, list: &str| -> Vec<Value> {
        match json.get(field) {
            Some(one) => {
                one.get(list).and_then(Value::as_array).cloned().unwrap_or_else(|| vec![one.clone()])
            }
            None => Vec::new(),
        }
    };
    parts("normalizer", "normalizers").iter().any(|part| part["type"] == "Prepend")
        || parts("pre_tokenizer", "pretokenizers")
            .iter()
            .any(|part| part["type"] == "Metaspace" && part["prepend_scheme"] != "never")
}

/// llama.cpp's name of the pre-tokenizer.
fn splitting(json: &Value) -> Option<&'static str> {
    let pre = json.get("pre_tokenizer")?;
    let parts = match pre.get("pretokenizers").and_then(Value::as_array) {
        Some(parts) => parts.as_slice(),
        None => std::slice::from_ref(pre),
    };
    let flag = |part: &Value, name: &str, default: bool| part.get(name).map_or(Some(default), Value::as_bool);
    let (bytes, before) = parts.split_last()?;
    if bytes["type"] != "ByteLevel" || flag(bytes, "add_prefix_space", true)? {
        return None;
    }
    match (before, flag(bytes, "use_regex", true)?) {
        ([], true) => Some("gpt-2"),
        ([digits], true) if digits["type"] == "Digits" && digits["individual_digits"] == true => {
            Some("smollm")
        }
        ([split], false) if split["type"] == "Split" && split["behavior"] == "Isolated" => {
            match split["pattern"]["Regex"].as_str()? {
                LLAMA_3 => Some("llama-bpe"),
                QWEN_2 => Some("qwen2"),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_known_pre_tokenizers_have_a_name() {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let split =
            |pattern: &str| json!({"type": "Split", "behavior": "Isolated", "pattern": {"Regex": pattern}});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let sequence = |parts: &[Value]| json!({"type": "Sequence", "pretokenizers": parts});
        for (pre, want) in [
            (bytes(true), Some("gpt-2")),
            (sequence(&[digits.clone(), bytes(true)]), Some("smollm")),
            (sequence(&[split(LLAMA_3), bytes(false)]), Some("llama-bpe")),
            (sequence(&[split(QWEN_2), bytes(false)]), Some("qwen2")),
            (sequence(&[split(r"\s+"), bytes(false)]), None),
            (sequence(&[digits, bytes(false)]), None),
            (json!({"type": "ByteLevel", "add_prefix_space": true}), None),
            (json!({"type": "Whitespace"}), None),
            (json!(null), None),
        ] {
            assert_eq!(splitting(&json!({"pre_tokenizer": pre})), want, "{pre}");
        }
    }

    #[test]
    fn merges_come_in_two_spellings() {
        let pairs = Some(vec![("a".to_owned(), "b".to_owned())]);
        assert_eq!(merges(&json!({"merges": ["a b"]})), pairs);
        assert_eq!(merges(&json!({"merges": [["a", "b"]]})), pairs);
        assert_eq!(merges(&json!({"merges": [["a"]]})), None, "what is no pair is no merge");
    }
}
