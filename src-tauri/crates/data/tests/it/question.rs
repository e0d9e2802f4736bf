//! Questions and their texts in windows, with the place of the answer, as transformers' example prepares them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use data::{DataError, Example, PrepareOptions, Rows, TokenRows, Tokenizer, open, overlap, prepare};
use serde::Deserialize;
use serde_json::json;
use types::{Strategy, Task};

use crate::support::file;

#[derive(Debug, Deserialize)]
struct Golden {
    window: usize,
    stride: usize,
    rows: Vec<Vec<Window>>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Window {
    ids: Vec<u32>,
    token_types: Vec<u8>,
    span: (u32, u32),
}

const SHAPES: [&str; 4] = ["bert-span", "roberta-span-sharded-bf16", "distilbert-span-f16", "deberta-span"];

fn golden(shape: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden").join(shape)
}

fn examples(path: &Path) -> Vec<Example> {
    let rows: Rows = open(path).unwrap();
    rows.map(|row| Example::from_row(&row.unwrap()).unwrap()).collect()
}

#[test]
fn windows_and_answers_are_those_of_transformers() {
    for shape in SHAPES {
        let tokenizer = Tokenizer::load(&golden(shape)).unwrap();
        let text = std::fs::read(golden(shape).join("golden.json")).unwrap();
        let want: Golden = serde_json::from_slice(&text).unwrap();
        assert_eq!(overlap(want.window), want.stride, "{shape}: a quarter of a window");
        let (mut several, mut unanswerable) = (0, 0);
        for (example, want_row) in examples(&golden(shape).join("questions.jsonl")).iter().zip(&want.rows) {
            let got = tokenizer.encode_windows(example, want.window).unwrap();
            let got: Vec<Window> = got
                .into_iter()
                .map(|row| Window { ids: row.ids, token_types: row.token_types, span: row.span.unwrap() })
                .collect();
            assert_eq!(&got, want_row, "{shape}: {example:?}");
            several += usize::from(got.len() > 1);
            unanswerable += usize::from(example.answers().is_empty());
        }
        assert!(
            several > 3 && unanswerable > 1,
            "{shape}: {several} long texts, {unanswerable} without an answer"
        );
    }
}

#[test]
fn a_row_whose_answer_cannot_be_pointed_at_says_why() {
    let tokenizer = Tokenizer::load(&golden("bert-span")).unwrap();
    let refusal = |row: serde_json::Value| {
        let (_folder, path) = file("a.jsonl", row.to_string());
        tokenizer.encode_windows(&examples(&path)[0], 48).unwrap_err().to_string()
    };
    let elsewhere = json!({"context": "The ferry leaves.", "question": "When?", "answer": "at nine"});
    assert!(refusal(elsewhere).contains("the answer \"at nine\" is not in the context"));
    let chat = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]});
    assert!(refusal(chat).contains("learns from rows with context, question and answer"));
    let long = json!({"context": "c", "question": "where is the book? ".repeat(30), "answer": "c"});
    assert!(refusal(long).contains("leaves no room for the context"));
}

/// A model's folder with the files that its `tokenizer.json` was made from in its place.
fn without_tokenizer_json(shape: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read(golden(shape).join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    if tokenizer["model"]["type"] == "BPE" {
        let merges: Vec<String> = tokenizer["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        write("vocab.json", tokenizer["model"]["vocab"].to_string());
        write("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n")));
    } else {
        let mut tokens: Vec<(&String, u64)> =
            vocab.iter().map(|(token, id)| (token, id.as_u64().unwrap())).collect();
        tokens.sort_by_key(|token| token.1);
        write("vocab.txt", tokens.into_iter().map(|(token, _)| format!("{token}\n")).collect());
    }
    let config = std::fs::read_to_string(golden(shape).join("tokenizer_config.json")).unwrap();
    write("tokenizer_config.json", config);
    folder
}

#[test]
fn files_that_a_tokenizer_json_is_made_from_will_do() {
    for shape in ["bert-span", "roberta-span-sharded-bf16"] {
        let whole = Tokenizer::load(&golden(shape)).unwrap();
        let folder = without_tokenizer_json(shape);
        let made = Tokenizer::load(folder.path()).unwrap();
        for example in examples(&golden(shape).join("questions.jsonl")) {
            let windows = |tokenizer: &Tokenizer| tokenizer.encode_windows(&example, 48).unwrap();
            assert_eq!(windows(&made), windows(&whole), "{shape}: {example:?}");
        }
        let text = "Where is the book? größere Schiffe";
        let ids = whole.encode(text).unwrap();
        assert_eq!(
            (made.encode(text).unwrap(), made.decode(&ids)),
            (ids.clone(), whole.decode(&ids)),
            "{shape}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.txt"), "[CLS]\n[SEP]\na\n").unwrap();
    let error = Tokenizer::load(folder.path()).err().unwrap().to_string();
    assert!(error.contains("vocab.txt") && error.contains("[UNK] is missing"), "{error}");
}

fn options<'a>(dataset: &'a Path, tokens_dir: &'a Path) -> PrepareOptions<'a> {
    PrepareOptions {
        dataset,
        eval_dataset: None,
        task: Task::ExtractiveQuestionAnswering,
        strategy: Strategy::Sft,
        max_seq_length: Some(48),
        context_length: 64,
        length_cap: None,
        eval_split: 0.25,
        packing: false,
        skip_bad_rows: false,
        seed: 1,
        tokens_dir,
    }
}

#[test]
fn all_windows_of_a_row_are_on_one_side_of_the_split() {
    let tokenizer = Tokenizer::load(&golden("bert-span")).unwrap();
    let (dataset, folder) = (golden("bert-span").join("questions.jsonl"), tempfile::tempdir().unwrap());
    let prepared = prepare(&options(&dataset, folder.path()), &tokenizer, &mut |_| {}).unwrap();
    let rows = examples(&dataset);
    let windows: Vec<usize> =
        rows.iter().map(|example| tokenizer.encode_windows(example, 48).unwrap().len()).collect();
    let all: usize = windows.iter().sum();
    assert_eq!(prepared.train.len() + prepared.eval.len(), all, "no window is lost");
    let questions = |side: &TokenRows| -> HashSet<Vec<u32>> {
        let question = |i: usize| {
            let row = side.read(i).unwrap();
            row.ids
                .iter()
                .zip(&row.token_types)
                .take_while(|(_, segment)| **segment == 0)
                .map(|(id, _)| *id)
                .collect()
        };
        (0..side.len()).map(question).collect()
    };
    let (train, eval) = (questions(&prepared.train), questions(&prepared.eval));
    assert_eq!((train.len(), eval.len()), (9, 3), "a quarter of the rows, not of the windows");
    assert!(train.is_disjoint(&eval), "what is asked in evaluation is not trained on");
    assert_eq!(
        prepared.stats.trained_tokens_per_epoch,
        2 * prepared.train.len() as u64,
        "both ends of each answer"
    );
    let told = prepared.stats.warnings.join("\n");
    assert!(told.contains(&format!("12 rows are {all} sequences of at most 48 tokens")), "{told}");
}

#[test]
fn rows_that_cannot_be_pointed_at_are_counted_listed_and_left_out_on_request() {
    let tokenizer = Tokenizer::load(&golden("bert-span")).unwrap();
    let good = json!({"context": "The ferry leaves at nine.", "question": "When?", "answer": "at nine"});
    let bad = json!({"context": "The ferry leaves at nine.", "question": "When?", "answer": "at ten"});
    let (folder, path) = file("a.jsonl", [good.clone(), bad, good].map(|row| row.to_string()).join("\n"));
    let options = options(&path, folder.path());
    let Err(DataError::Rows(rows)) = prepare(&options, &tokenizer, &mut |_| {}) else { panic!("refused") };
    assert_eq!(rows.total, 1);
    assert!(rows.to_string().starts_with("line 2: the answer \"at ten\" is not in the context"), "{rows}");
    let options = PrepareOptions { skip_bad_rows: true, ..options };
    let prepared = prepare(&options, &tokenizer, &mut |_| {}).unwrap();
    assert_eq!((prepared.stats.skipped_rows, prepared.train.len() + prepared.eval.len()), (1, 2));
    assert!(prepared.stats.warnings[0].contains("left out line 2"), "{:?}", prepared.stats.warnings);
}

#[test]
fn a_question_without_an_answer_is_for_models_that_point() {
    let row =
        json!({"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}}).to_string();
    let (folder, path) = file("a.jsonl", row);
    let encoder = Tokenizer::load(&golden("bert-span")).unwrap();
    let prepared = prepare(&options(&path, folder.path()), &encoder, &mut |_| {}).unwrap();
    assert_eq!(prepared.train.read(0).unwrap().span, Some((0, 0)), "the first token stands for no answer");
    let writer = crate::support::byte_level(crate::support::CHATML);
    let error = prepare(&options(&path, folder.path()), &writer, &mut |_| {}).err().unwrap().to_string();
    assert!(error.contains("the question has no answer; only models that point at answers"), "{error}");
}
