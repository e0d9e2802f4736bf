//! What turns settings, conversations and text into tokens: TrainingConfig, chat templates, tokenizers.

use data::{ChatTemplate, Tokenizer};
use serde_json::Value;
use types::{Message, TrainingConfig};

use crate::with_files;

const TOKENIZER: &[u8] = include_bytes!("../../../../tests/golden/tokenizers/byte-level/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] =
    include_bytes!("../../../../tests/golden/tokenizers/byte-level/tokenizer_config.json");

/// Parts a chat template from the conversation it is to render, a JSON list of messages.
const MESSAGES: &str = "\n=== messages\n";

/// A chat template and a conversation.
pub fn chat_template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (source, messages) = text.split_once(MESSAGES).unwrap_or((text, "[]"));
    let messages: Vec<Message> = serde_json::from_str(messages)
        .unwrap_or_else(|_| vec![Message::user("Hi"), Message::assistant("Hello!"), Message::user("Bye")]);
    let variables = [("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let Ok(template) = ChatTemplate::new(source, "chat_template.jinja", &variables) else { return };
    for add_generation_prompt in [false, true] {
        let _ = template.render(&messages, add_generation_prompt);
    }
}

/// `tokenizer_config.json`, beside a tokenizer that is in order.
pub fn tokenizer_config(bytes: &[u8]) {
    with_files(&[("tokenizer.json", TOKENIZER), ("tokenizer_config.json", bytes)], use_tokenizer);
}

/// `tokenizer.json`.
pub fn tokenizer(bytes: &[u8]) {
    with_files(&[("tokenizer.json", bytes), ("tokenizer_config.json", TOKENIZER_CONFIG)], use_tokenizer);
}

fn use_tokenizer(folder: &std::path::Path) {
    let Ok(tokenizer) = Tokenizer::load(folder) else { return };
    assert!(!tokenizer.eos_ids().is_empty(), "a model without an end would never stop");
    let _ = tokenizer.encode_prompt(&[Message::user("Where is Mia's lamp?")]);
    for text in ["", "Hello, world! 123", "é\u{301} 😀\0\n\t", "<s></s><|im_start|>"] {
        let Ok(ids) = tokenizer.encode(text) else { continue };
        assert!(
            ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()),
            "ids are within the vocabulary"
        );
        let _ = tokenizer.decode(&ids);
    }
}

/// A request for a training run.
pub fn training_config(bytes: &[u8]) {
    let Ok(Value::Object(request)) = serde_json::from_slice(bytes) else { return };
    match TrainingConfig::from_json(&request) {
        Err(errors) => assert!(!errors.is_empty(), "a refusal says why"),
        Ok(config) => {
            let _ = config.unsupported();
            let Ok(Value::Object(written)) = serde_json::to_value(&config) else {
                panic!("checked settings can be written");
            };
            assert_eq!(
                TrainingConfig::from_json(&written).as_ref(),
                Ok(&config),
                "written settings read back the same"
            );
        }
    }
}
