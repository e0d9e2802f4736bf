//! A tokenizer and the files beside it: which ids end a turn, which one begins a sequence, and what is refused.

use std::{fs, sync::LazyLock};

use data::{TextStream, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{CHATML, INST, byte_level, exchange, model_dir, sentencepiece};

fn refusal(kind: &str, files: &[(&str, Value)]) -> String {
    Tokenizer::load(model_dir(kind, files).path()).map(drop).unwrap_err().to_string()
}

#[test]
fn every_end_of_sequence_counts() {
    let check = |files: &[(&str, Value)], want: &[u32], why: &str| {
        let tokenizer = Tokenizer::load(model_dir("byte-level", files).path()).unwrap();
        assert_eq!(tokenizer.eos_ids(), want, "{why}");
    };
    check(&[("generation_config.json", json!({"eos_token_id": 2}))], &[2], "a number");
    check(&[("generation_config.json", json!({"eos_token_id": [2, 0]}))], &[2, 0], "a list");
    check(&[("config.json", json!({"eos_token_id": 0}))], &[0], "the model's own");
    check(&[("tokenizer_config.json", json!({"eos_token": {"content": "<|im_end|>"}}))], &[2], "an object");
    check(&[("special_tokens_map.json", json!({"eos_token": "<|im_end|>"}))], &[2], "the old file");
    let both = [
        ("generation_config.json", json!({"eos_token_id": [0, 99999, -1, "x"]})),
        ("config.json", json!({"eos_token_id": 2})),
    ];
    check(&both, &[0, 2], "all of them, without ids the tokenizer lacks");
    let base = [("tokenizer_config.json", json!({"eos_token": "<|endoftext|>", "chat_template": CHATML}))];
    check(&base, &[0, 2], "the token the template ends an answer with stops generation, too");
}

#[test]
fn a_tokenizer_without_an_end_is_refused_with_the_fix() {
    let error = refusal("byte-level", &[]);
    assert!(
        error.contains("names no end-of-sequence token. Add \"eos_token\" to tokenizer_config.json"),
        "{error}"
    );
    let error = refusal("byte-level", &[("tokenizer_config.json", json!({"eos_token": "<|nowhere|>"}))]);
    assert!(
        error.contains("names no end-of-sequence token"),
        "a token the vocabulary lacks is none: {error}"
    );
}

#[test]
fn broken_files_are_named() {
    let eos = || ("generation_config.json", json!({"eos_token_id": 2}));
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"] {
        for content in ["{\"a\": ", "\u{0}"] {
            let error = refusal("byte-level", &[eos(), (file, content.into())]);
            assert!(error.contains(file), "{file}: {error}");
        }
    }
    let error = refusal("byte-level", &[eos(), ("chat_template.jinja", "\n{% if %}".into())]);
    assert!(error.contains("chat_template.jinja:2: "), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let load = || Tokenizer::load(folder.path()).map(drop).unwrap_err().to_string();
    assert!(load().contains("tokenizer.json"), "what is missing is named");
    fs::write(folder.path().join("tokenizer.model"), "x").unwrap();
    assert!(load().contains("only tokenizer.model is there"), "and what to do about it");
}

#[test]
fn a_sequence_begins_once() {
    let bos = 1;
    let starts = |tokenizer: &Tokenizer, text: &str| {
        tokenizer.encode(text).unwrap().iter().take_while(|&&id| id == bos).count()
    };
    let tokenizer = sentencepiece(INST);
    assert_eq!(tokenizer.bos_id(), Some(bos));
    assert_eq!(starts(&tokenizer, "the lamp"), 1, "raw text gets a beginning where the model expects one");
    assert_eq!(starts(&tokenizer, "<s>the lamp"), 1, "but not a second one");
    let prompt = tokenizer.encode_prompt(&exchange("Q", "A")[..1]).unwrap();
    assert_eq!(prompt.iter().filter(|&&id| id == bos).count(), 1, "the template's own is enough");
    let without = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false});
    let dir = model_dir("sentencepiece-like", &[("tokenizer_config.json", without)]);
    assert_eq!(starts(&Tokenizer::load(dir.path()).unwrap(), "the lamp"), 0, "the setting decides");
    assert_eq!(byte_level(CHATML).bos_id(), None);
}

#[test]
fn saved_truncation_and_padding_are_not_applied() {
    let dir = model_dir("byte-level", &[("generation_config.json", json!({"eos_token_id": 2}))]);
    let path = dir.path().join("tokenizer.json");
    let mut parsed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    parsed["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    parsed["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    fs::write(&path, parsed.to_string()).unwrap();
    let text = "the keeper of the lighthouse counts the ferries";
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(
        tokenizer.decode_all(&tokenizer.encode(text).unwrap()),
        text,
        "nothing is cut, nothing is added"
    );
}

static TOKENIZERS: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| [byte_level(CHATML), sentencepiece(INST)]);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn streamed_text_is_the_whole_text(text in "\\PC{0,40}|[😀é中 \u{301}a]{0,30}") {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text).unwrap();
            let mut stream = TextStream::new(tokenizer);
            let mut streamed = String::new();
            for &id in &ids {
                if let Some(piece) = stream.push(id) {
                    prop_assert!(!piece.ends_with('\u{fffd}') || text.contains('\u{fffd}'), "whole characters only");
                    streamed.push_str(&piece);
                }
            }
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, tokenizer.decode(&ids));
        }
    }

    #[test]
    fn any_ids_stream_without_loss_of_the_ascii_in_them(ids in prop::collection::vec(0u32..640, 0..60)) {
        let tokenizer = &TOKENIZERS[0];
        let mut stream = TextStream::new(tokenizer);
        let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        streamed.push_str(&stream.finish());
        let ascii = |text: &str| text.chars().filter(char::is_ascii).collect::<String>();
        prop_assert_eq!(ascii(&streamed), ascii(&tokenizer.decode(&ids)));
    }
}
