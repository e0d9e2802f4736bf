//! Folders, dataset files and tiny tokenizers that tests are made of.

use std::{
    fs,
    path::{Path, PathBuf},
};

use data::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;
use types::Message;

/// A folder with one file in it.
pub fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// A tokenizer of the goldens.
pub fn golden_tokenizer(kind: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/tokenizers");
    root.join(kind).join("tokenizer.json")
}

/// A model's folder with a byte-level tokenizer that knows ChatML's tokens, and these other files.
pub fn model_dir(kind: &str, files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden_tokenizer(kind), folder.path().join("tokenizer.json")).unwrap();
    for (name, content) in files {
        let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// ChatML as most models write it.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Llama 2's `[INST]` layout, which writes the begin-of-sequence token itself.
pub const INST: &str = "{% for message in messages %}{% if message.role == 'user' %}\
    {{ bos_token + '[INST] ' + message.content + ' [/INST]' }}{% elif message.role == 'assistant' %}\
    {{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}";

/// A byte-level tokenizer with this template.
pub fn byte_level(template: &str) -> Tokenizer {
    let config = json!({"eos_token": "<|im_end|>"});
    let files = [("tokenizer_config.json", config), ("chat_template.jinja", template.into())];
    Tokenizer::load(model_dir("byte-level", &files).path()).unwrap()
}

/// A SentencePiece-like tokenizer that wants a begin-of-sequence token, with this template.
pub fn sentencepiece(template: &str) -> Tokenizer {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let files = [("tokenizer_config.json", config), ("chat_template.jinja", template.into())];
    Tokenizer::load(model_dir("sentencepiece-like", &files).path()).unwrap()
}

/// One exchange.
pub fn exchange(question: &str, answer: &str) -> Vec<Message> {
    vec![Message::user(question), Message::assistant(answer)]
}
