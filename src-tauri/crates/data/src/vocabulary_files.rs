//! A tokenizer of a repository that has no `tokenizer.json`: the files it was made from say the same.
//!
//! `vocab.json` with `merges.txt` are a byte-level BPE (GPT-2, RoBERTa, BART), `vocab.txt` is a WordPiece (BERT, DistilBERT).
//! What the files do not say is how transformers reads those families.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{DataError, model_files};

/// Vocabulary and merges of the largest byte-level BPEs have a few MB.
const MAX_FILE: u64 = 64 << 20;

/// The same as a `tokenizer.json`; `None` where these files are not there either.
///
/// # Errors
/// A file that cannot be read or is not what it should be.
pub(crate) fn described(dir: &Path) -> Result<Option<Value>, DataError> {
    let config = model_files::read_json(&dir.join("tokenizer_config.json"))?;
    if dir.join("merges.txt").is_file() && dir.join("vocab.json").is_file() {
        return byte_level(dir, &config).map(Some);
    }
    if dir.join("vocab.txt").is_file() {
        return word_piece(dir, &config).map(Some);
    }
    Ok(None)
}

fn text(path: &Path) -> Result<String, DataError> {
    String::from_utf8(model_files::read(path, MAX_FILE)?)
        .map_err(|_| DataError::model_file(path, "must be text in UTF-8"))
}

/// A tokenizer of these parts.
fn whole(parts: [(&str, Value); 5]) -> Value {
    let mut all = Map::from_iter(parts.map(|(name, part)| (name.to_owned(), part)));
    all.insert("version".into(), json!("1.0"));
    all.insert("added_tokens".into(), json!([]));
    Value::Object(all)
}

fn byte_level(dir: &Path, config: &Value) -> Result<Value, DataError> {
    let path = dir.join("vocab.json");
    let vocab = model_files::read_json(&path)?;
    let Value::Object(entries) = &vocab else {
        return Err(DataError::model_file(&path, "must be an object from token to id"));
    };
    let merges = text(&dir.join("merges.txt"))?;
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty()).collect();
    let space = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    // RoBERTa and BART put a text between these two; GPT-2 has neither.
    let around = match (entries.get("<s>"), entries.get("</s>")) {
        (Some(first), Some(last)) => json!({
            "type": "RobertaProcessing", "cls": ["<s>", first], "sep": ["</s>", last], "trim_offsets": true,
            "add_prefix_space": space,
        }),
        _ => {
            json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": false, "use_regex": true})
        }
    };
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true});
    Ok(whole([
        ("normalizer", Value::Null),
        ("pre_tokenizer", bytes.clone()),
        ("post_processor", around),
        ("decoder", bytes),
        ("model", json!({"type": "BPE", "vocab": vocab, "merges": merges})),
    ]))
}

fn word_piece(dir: &Path, config: &Value) -> Result<Value, DataError> {
    let path = dir.join("vocab.txt");
    let lines = text(&path)?;
    let vocab: Map<String, Value> =
        lines.lines().zip(0u32..).map(|(token, id)| (token.trim_end().to_owned(), id.into())).collect();
    let id = |token: &str| {
        let missing = || DataError::model_file(&path, format!("the token {token} is missing"));
        vocab.get(token).cloned().ok_or_else(missing)
    };
    let flag = |name: &str, usual: bool| config.get(name).and_then(Value::as_bool).unwrap_or(usual);
    let (cls, sep) = (id("[CLS]")?, id("[SEP]")?);
    id("[UNK]")?;
    Ok(whole([
        (
            "normalizer",
            json!({
                "type": "BertNormalizer", "clean_text": true, "strip_accents": config.get("strip_accents"),
                "handle_chinese_chars": flag("tokenize_chinese_chars", true),
                "lowercase": flag("do_lower_case", true),
            }),
        ),
        ("pre_tokenizer", json!({"type": "BertPreTokenizer"})),
        ("post_processor", json!({"type": "BertProcessing", "cls": ["[CLS]", cls], "sep": ["[SEP]", sep]})),
        ("decoder", json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
        (
            "model",
            json!({
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab,
            }),
        ),
    ]))
}
