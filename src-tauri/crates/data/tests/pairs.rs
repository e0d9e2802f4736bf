//! Rows for encoder-decoders: ids as transformers' tokenizers give them, lengths, and what is refused.
#![allow(clippy::unwrap_used, reason = "a broken golden ends the test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use std::path::Path;

use data::{DataError, EarlyStopping, PrepareOptions, Prepared, Tokenizer, prepare};
use golden::{PAIRS, Pair, path};
use serde_json::{Value, json};
use types::{Message, Strategy, Task};

fn options<'a>(dataset: &'a Path, tokens_dir: &'a Path) -> PrepareOptions<'a> {
    PrepareOptions {
        dataset,
        eval_dataset: None,
        task: Task::Summarization,
        strategy: Strategy::Sft,
        max_seq_length: None,
        context_length: 128,
        length_cap: None,
        eval_split: 0.0,
        packing: false,
        skip_bad_rows: false,
        seed: 1,
        tokens_dir,
    }
}

fn run(options: &PrepareOptions<'_>, tokenizer: &Tokenizer) -> Result<Prepared, DataError> {
    prepare(options, tokenizer, &mut |_| {})
}

#[test]
fn rows_have_the_ids_of_transformers() {
    for name in PAIRS {
        let tokenizer = Tokenizer::load(&path(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dataset = path("documents.jsonl");
        let prepared = run(&options(&dataset, folder.path()), &tokenizer).unwrap();
        let mut rows: Vec<(Vec<u32>, Vec<u32>)> = (0..prepared.train.len())
            .map(|i| {
                let row = prepared.train.read(i).unwrap();
                assert_eq!(row.trained_tokens(), row.ids.len() - 1, "{name}: all but the start is trained");
                assert_eq!(prepared.train.length(i), row.source.len() + row.ids.len(), "{name}");
                (row.source, row.ids)
            })
            .collect();
        let mut want: Vec<(Vec<u32>, Vec<u32>)> =
            golden::pairs(name).rows.into_iter().map(|Pair { source, target }| (source, target)).collect();
        rows.sort();
        want.sort();
        assert_eq!(rows, want, "{name}");
    }
}

#[test]
fn what_is_too_long_is_cut_at_the_end_and_counted() {
    for name in PAIRS {
        let tokenizer = Tokenizer::load(&path(name)).unwrap();
        let (whole, none) = tokenizer.encode_framed("The keeper of the lighthouse", 100).unwrap();
        assert_eq!(none, 0);
        let short = whole.len() - 2;
        let (cut, left_out) = tokenizer.encode_framed("The keeper of the lighthouse", short).unwrap();
        assert_eq!((cut.len(), left_out), (short, 2), "{name}");
        assert_eq!(cut.last(), whole.last(), "{name}: the end of the text stays");
        assert_eq!(cut[..short - 1], whole[..short - 1], "{name}: and so does its beginning");
        assert!(matches!(tokenizer.encode_framed("x", 1), Err(DataError::NoRoom { .. })), "{name}");

        let folder = tempfile::tempdir().unwrap();
        let dataset = path("documents.jsonl");
        let limited = PrepareOptions { max_seq_length: Some(12), ..options(&dataset, folder.path()) };
        let prepared = run(&limited, &tokenizer).unwrap();
        assert!(prepared.stats.truncated_rows > 0 && prepared.stats.cut_tokens > 0, "{name}");
        for i in 0..prepared.train.len() {
            let row = prepared.train.read(i).unwrap();
            assert!(row.source.len() <= 12 && row.ids.len() <= 13, "{name}: source and target each");
        }
    }
}

#[test]
fn an_empty_summary_is_named_or_skipped() {
    let tokenizer = Tokenizer::load(&path(PAIRS[0])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dataset = folder.path().join("rows.jsonl");
    let rows = [json!({"document": "a b", "summary": "a"}), json!({"document": "c d", "summary": "  "})];
    let text: String = rows.iter().map(|row: &Value| format!("{row}\n")).collect();
    types::files::write(&dataset, text.as_bytes()).unwrap();
    let error = run(&options(&dataset, folder.path()), &tokenizer).unwrap_err().to_string();
    assert!(error.contains("field \"summary\" is empty"), "{error}");
    let skipping = PrepareOptions { skip_bad_rows: true, ..options(&dataset, folder.path()) };
    let prepared = run(&skipping, &tokenizer).unwrap();
    assert_eq!((prepared.stats.skipped_rows, prepared.train.len()), (1, 1));
}

#[test]
fn files_say_how_texts_are_written() {
    let of = |name: &str| Tokenizer::load(&path(name)).unwrap().encoder_decoder().unwrap().clone();
    let t5 = of("t5-relu-tied-sharded");
    assert_eq!((t5.start, t5.prefix.as_str()), (0, "summarize: "));
    let summaries = &t5.summaries;
    assert_eq!((summaries.num_beams, summaries.max_length, summaries.min_length), (4, Some(40), 8));
    assert_eq!((summaries.early_stopping, summaries.no_repeat_ngram_size), (EarlyStopping::Yes, 3));
    assert_eq!(
        (t5.texts.num_beams, t5.texts.max_length),
        (1, None),
        "task_specific_params are for their task"
    );
    let document = data::prompt_for(Task::Summarization, data::PromptParts { text: "x", question: None });
    assert_eq!(t5.source(&[Message::user(document.clone())]).0, "summarize: x");
    let later = [Message::user("hello"), Message::assistant("hi"), Message::user(document)];
    assert_eq!(t5.source(&later).0, "summarize: x", "what was said before is no part of the document");
    assert_eq!(t5.source(&[Message::user("x"), Message::assistant("y")]).0, "x\n\ny");

    let bart = of("bart-gelu");
    assert_eq!(
        (bart.start, bart.prefix.as_str(), bart.summaries.num_beams),
        (2, "", 4),
        "generation_config.json"
    );
    assert_eq!((bart.summaries.forced_bos, bart.summaries.forced_eos), (Some(0), Some(2)));
    assert_eq!(
        of("distilbart-scaled-f16").texts.length_penalty,
        2.0,
        "config.json, where older models have it"
    );
    let decoder = Tokenizer::load(&path("llama-tied-gqa")).unwrap();
    assert!(decoder.encoder_decoder().is_none(), "other kinds have none of it");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (field, value) in [
        ("num_beams", json!(0)),
        ("num_beams", json!(65)),
        ("max_length", json!(1)),
        ("min_length", json!(-1)),
        ("no_repeat_ngram_size", json!("3")),
        ("length_penalty", json!("long")),
        ("early_stopping", json!("soon")),
        ("decoder_start_token_id", json!(null)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(path("bart-gelu").join(file), folder.path().join(file)).unwrap();
        }
        let mut config: Value = golden::json("bart-gelu/config.json");
        config[field] = value.clone();
        types::files::write_json(&folder.path().join("config.json"), &config).unwrap();
        let error = Tokenizer::load(folder.path()).err().unwrap().to_string();
        assert!(error.contains(field), "{field} {value}: {error}");
    }
}

#[test]
fn a_preview_shows_what_is_read_and_what_is_written() {
    let tokenizer = Tokenizer::load(&path(PAIRS[0])).unwrap();
    let rows = data::preview(&path("documents.jsonl"), Task::Summarization, &tokenizer, 100, 2).unwrap();
    let want = &golden::pairs(PAIRS[0]).rows[0];
    let of = |trained: bool| -> Vec<u32> {
        rows[0].tokens.iter().filter(|token| token.trained == trained).map(|token| token.id).collect()
    };
    assert_eq!(of(false), [want.source.as_slice(), &want.target[..1]].concat(), "the source and the start");
    assert_eq!(of(true), want.target[1..], "and the summary");
}
