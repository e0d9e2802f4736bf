//! Token ids, decoded text, chat templates and loss masks equal those of transformers.
#![allow(clippy::unwrap_used, reason = "a broken golden ends the test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use std::{collections::BTreeMap, fs, path::Path};

use data::{TextStream, Tokenizer};
use jiff::{ZonedDateTime, fmt::strtime};
use serde::Deserialize;
use types::{Message, Strategy, Task, files};

/// A text as transformers' tokenizer takes it.
#[derive(Deserialize)]
struct Probe {
    text: String,
    ids: Vec<u32>,
    ids_with_special_tokens: Vec<u32>,
    decoded: String,
}

/// A conversation as transformers' `apply_chat_template` renders it; `None` where the template refuses.
#[derive(Deserialize)]
struct Rendered {
    closed: Option<String>,
    open: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    bos: Option<String>,
    eos: String,
}

#[derive(Deserialize)]
struct Prompt {
    messages: Vec<Message>,
    text: String,
    ids: Vec<u32>,
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = TextStream::new(tokenizer);
    let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
    text.push_str(&stream.finish());
    text
}

fn check_ids(folder: &Path, probes: &[Probe], kind: &str) {
    let tokenizer = Tokenizer::load(folder).unwrap();
    for Probe { text, ids, ids_with_special_tokens, decoded } in probes {
        // A text that spells the beginning-of-sequence token itself, as templates do, does not get a second one.
        let spelled = ids.first().is_some_and(|&id| Some(id) == tokenizer.bos_id());
        let want = if spelled { ids } else { ids_with_special_tokens };
        let got = tokenizer.encode(text).unwrap();
        assert_eq!(&got, want, "{kind}: ids of {text:?} equal those of transformers");
        assert_eq!(&tokenizer.decode(&got), decoded, "{kind}: {text:?} decodes as in transformers");
        assert_eq!(
            &streamed(&tokenizer, &got),
            decoded,
            "{kind}: {text:?} streamed token by token is the same text"
        );
    }
}

#[test]
fn ids_and_text_equal_transformers() {
    for kind in ["byte-level", "sentencepiece-like"] {
        let folder = format!("tokenizers/{kind}");
        check_ids(
            &golden::path(&folder),
            &golden::json::<Vec<Probe>>(&format!("{folder}/golden.json")),
            kind,
        );
    }
}

#[test]
fn the_starter_model_reads_as_in_transformers() {
    let folder = golden::path("../../src-tauri/resources/starter");
    check_ids(&folder, &golden::json::<Vec<Probe>>("tokenizers/starter/golden.json"), "starter");
    let tokenizer = Tokenizer::load(&folder).unwrap();
    for Prompt { messages, text, ids } in golden::json::<Vec<Prompt>>("tokenizers/starter/prompts.json") {
        assert_eq!(
            tokenizer.render(&messages, true).unwrap(),
            text,
            "the starter's template renders as in transformers"
        );
        assert_eq!(
            tokenizer.encode_prompt(&messages).unwrap(),
            ids,
            "the ids of a prompt equal those of transformers"
        );
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let conversations: Vec<Vec<Message>> = golden::json("templates/conversations.json");
    let tokens: BTreeMap<String, Tokens> = golden::json("templates/tokens.json");
    for (family, Tokens { bos, eos }) in tokens {
        let folder = tempfile::tempdir().unwrap();
        let mut tokenizer: serde_json::Value = golden::json("tokenizers/byte-level/tokenizer.json");
        add_special_tokens(&mut tokenizer, bos.iter().chain([&eos]));
        files::write_json(&folder.path().join("tokenizer.json"), &tokenizer).unwrap();
        let config = serde_json::json!({"bos_token": bos, "eos_token": eos});
        files::write_json(&folder.path().join("tokenizer_config.json"), &config).unwrap();
        let template = golden::path(&format!("templates/{family}.jinja"));
        fs::copy(template, folder.path().join("chat_template.jinja")).unwrap();

        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let rendered: Vec<Rendered> = golden::json(&format!("templates/{family}.json"));
        assert_eq!(rendered.len(), conversations.len(), "{family}: one golden a conversation");
        for (number, (messages, want)) in conversations.iter().zip(rendered).enumerate() {
            for (open, want) in [(false, want.closed), (true, want.open)] {
                let got = tokenizer.render(messages, open);
                match (&got, &want) {
                    (Ok(got), Some(want)) => {
                        assert_eq!(
                            got,
                            &dated(want),
                            "{family}: conversation {number} renders as in transformers"
                        )
                    }
                    (Err(_), None) => {}
                    (Err(error), Some(_)) => {
                        panic!("{family}: conversation {number} is rendered by transformers: {error}")
                    }
                    (Ok(_), None) => panic!("{family}: conversation {number} is refused by the template"),
                }
            }
        }
    }
}

/// The text with the date of today where a golden has the format of one, as in `<<%Y-%m-%d>>`.
fn dated(text: &str) -> String {
    let mut parts = text.split("<<%");
    let mut dated = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (format, rest) = part.split_once(">>").unwrap();
        dated += &strtime::format(format!("%{format}"), &ZonedDateTime::now()).unwrap();
        dated += rest;
    }
    dated
}

/// Gives a `tokenizer.json` more special tokens, after the last of its vocabulary.
fn add_special_tokens<'a>(tokenizer: &mut serde_json::Value, contents: impl Iterator<Item = &'a String>) {
    let first = tokenizer["model"]["vocab"].as_object().unwrap().len();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    for (i, content) in contents.filter(|c| !c.starts_with("<|im_")).enumerate() {
        added.push(serde_json::json!({
            "id": first + i, "content": content, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        }));
    }
}

#[test]
fn rows_of_a_dataset_become_the_same_ids_and_mask() {
    for shape in golden::SHAPES {
        let tokenizer = Tokenizer::load(&golden::path(shape)).unwrap();
        let want = golden::golden(shape).rows;
        let mut rows =
            data::examples(&golden::path("dataset.jsonl"), Task::TextGeneration, Strategy::Sft).unwrap();
        for want in want {
            let row = rows.next_row().unwrap().unwrap().unwrap();
            let encoded = tokenizer.encode_example(&row.example, Task::TextGeneration, 512).unwrap();
            assert_eq!(encoded.ids, want.ids, "{shape}, row {}: ids equal those of transformers", row.row);
            assert_eq!(
                encoded.trained, want.trained,
                "{shape}, row {}: the answer and its end are trained",
                row.row
            );
        }
        assert!(rows.next_row().unwrap().is_none(), "{shape}: the file has no more rows than the golden");
    }
}
