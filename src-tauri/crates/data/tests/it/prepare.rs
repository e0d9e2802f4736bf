//! A whole dataset made ready: split, lengths, bad rows, and the preview of what is trained.

use std::{fs, path::Path};

use data::{DataError, PrepareOptions, Prepared, Tokenizer, prepare, preview};
use types::{Strategy, Task};

use crate::support::{CHATML, byte_level, file};

fn rows(n: usize) -> String {
    let row =
        |i| format!("{{\"input\": \"question {i}\", \"output\": \"{}\"}}\n", "answer ".repeat(1 + i % 4));
    (0..n).map(row).collect()
}

fn options<'a>(dataset: &'a Path, tokens_dir: &'a Path) -> PrepareOptions<'a> {
    PrepareOptions {
        dataset,
        eval_dataset: None,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        max_seq_length: None,
        context_length: 512,
        length_cap: None,
        eval_split: 0.2,
        packing: false,
        skip_bad_rows: false,
        seed: 42,
        tokens_dir,
    }
}

fn run(options: &PrepareOptions<'_>, tokenizer: &Tokenizer) -> Result<Prepared, DataError> {
    prepare(options, tokenizer, &mut |_| {})
}

fn contents(prepared: &Prepared) -> [Vec<Vec<u32>>; 2] {
    [&prepared.train, &prepared.eval].map(|set| (0..set.len()).map(|i| set.read(i).unwrap().ids).collect())
}

#[test]
fn rows_are_split_by_seed_and_none_is_lost() {
    let tokenizer = byte_level(CHATML);
    for (n, part, eval) in [(50, 0.2, 10), (3, 0.01, 1), (3, 0.99, 2), (1, 0.2, 0), (2, 0.2, 1), (10, 0.0, 0)]
    {
        let (folder, path) = file("a.jsonl", rows(n));
        let mut options = PrepareOptions { eval_split: part, ..options(&path, folder.path()) };
        let prepared = run(&options, &tokenizer).unwrap();
        assert_eq!((prepared.train.len(), prepared.eval.len()), (n - eval, eval), "{part} of {n} rows");
        assert_eq!((prepared.stats.train_rows, prepared.stats.eval_rows), ((n - eval) as u64, eval as u64));
        let first = contents(&prepared);
        let mut all = first.concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), n, "every row is on one side, once");
        drop(prepared);
        assert_eq!(contents(&run(&options, &tokenizer).unwrap()), first, "the same seed splits the same");
        if n == 50 {
            options.seed = 43;
            assert_ne!(contents(&run(&options, &tokenizer).unwrap()), first, "another seed splits otherwise");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no token file is left behind");
    }
}

#[test]
fn counts_are_those_of_the_training_rows() {
    let (folder, path) = file("a.jsonl", rows(20));
    let prepared = run(&options(&path, folder.path()), &byte_level(CHATML)).unwrap();
    let train: Vec<_> = (0..prepared.train.len()).map(|i| prepared.train.read(i).unwrap()).collect();
    let tokens: usize = train.iter().map(|row| row.ids.len()).sum();
    let trained: usize = train.iter().map(|row| row.trained_tokens()).sum();
    assert_eq!(prepared.stats.tokens_per_epoch, tokens as u64);
    assert_eq!(prepared.stats.trained_tokens_per_epoch, trained as u64);
    assert!(trained > 0 && trained < tokens, "the prompt is not trained");
    assert!((0..16).all(|i| prepared.train.length(i) == train[i].ids.len()), "lengths need no reading");
}

#[test]
fn a_second_file_is_evaluated_on() {
    let (folder, path) = file("a.jsonl", rows(5));
    let (_other, eval) = file("b.csv", "input,output\nx,y\nz,w\n");
    let options = PrepareOptions { eval_dataset: Some(&eval), ..options(&path, folder.path()) };
    let prepared = run(&options, &byte_level(CHATML)).unwrap();
    assert_eq!((prepared.train.len(), prepared.eval.len()), (5, 2), "no row is taken from the first");
}

#[test]
fn the_longest_length_is_found_or_obeyed() {
    let tokenizer = byte_level(CHATML);
    let (folder, path) = file("a.jsonl", rows(8));
    let base = options(&path, folder.path());
    let longest = run(&base, &tokenizer).unwrap().max_seq_length;
    let cases = [
        (None, None, 512, false, longest, 0),
        (None, Some(20), 512, false, 20, 1),
        (None, Some(400), 24, false, 24, 1),
        (Some(24), Some(20), 512, false, 24, 1),
        (Some(300), None, 512, false, 300, 0),
        (None, None, 512, true, 512, 0),
        (None, None, 1 << 17, true, 1024, 0),
    ];
    for (asked, cap, context_length, packing, want, cut) in cases {
        let options = PrepareOptions {
            max_seq_length: asked,
            length_cap: cap,
            context_length,
            packing,
            ..base.clone()
        };
        let prepared = run(&options, &tokenizer).unwrap();
        assert_eq!(prepared.max_seq_length, want, "{options:?}");
        assert_eq!(prepared.stats.truncated_rows.min(1), cut, "{options:?}: cut rows are counted");
        let lengths = (0..prepared.train.len()).map(|i| prepared.train.length(i));
        assert!(lengths.max().unwrap() <= want, "no row is longer");
    }
    let options = PrepareOptions { max_seq_length: Some(600), ..base };
    let error = run(&options, &tokenizer).unwrap_err().to_string();
    assert!(error.starts_with("max_seq_length is 600, but the model reads at most 512"), "{error}");
}

#[test]
fn bad_rows_refuse_the_dataset_or_are_left_out() {
    let tokenizer = byte_level(CHATML);
    let (folder, path) = file("a.jsonl", format!("{}{}", rows(41), "{\"input\": \"x\"}\n".repeat(8)));
    let mut options = options(&path, folder.path());
    let error = run(&options, &tokenizer).unwrap_err().to_string();
    assert!(
        error.starts_with("Dataset validation failed: line 42: missing field \"output\"; line 43: "),
        "{error}"
    );
    assert!(error.ends_with("; and 3 more rows"), "the rest is counted: {error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no half-written token file is left");
    options.skip_bad_rows = true;
    let prepared = run(&options, &tokenizer).unwrap();
    assert_eq!((prepared.stats.rows, prepared.stats.skipped_rows), (49, 8));
    assert!(
        prepared.stats.warnings[0].ends_with("left out line 42: missing field \"output\""),
        "each is listed"
    );

    let (folder, path) = file("a.jsonl", "{\"input\": \"x\"}\n");
    let options = PrepareOptions { skip_bad_rows: true, ..self::options(&path, folder.path()) };
    let error = run(&options, &tokenizer).unwrap_err().to_string();
    assert!(error.contains("has no usable row: line 1: missing field \"output\""), "{error}");
}

#[test]
fn a_row_whose_answer_does_not_fit_is_left_out_with_a_warning() {
    let tokenizer = byte_level(
        "{% for m in messages %}{{ m.role * (1 + m.content.count('!') * 50) }}\
        {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant{% endif %}",
    );
    let text = format!("{}{{\"input\": \"hey!\", \"output\": \"y\"}}\n", rows(3));
    let (folder, path) = file("a.jsonl", text);
    let options = PrepareOptions { max_seq_length: Some(40), ..options(&path, folder.path()) };
    let prepared = run(&options, &tokenizer).unwrap();
    assert_eq!(prepared.stats.skipped_rows, 1);
    let warning = &prepared.stats.warnings[0];
    assert!(warning.contains("line 4: not one token of the answer fits into 40 tokens"), "{warning}");
}

#[test]
fn a_conversation_the_template_refuses_is_a_bad_row() {
    let tokenizer = byte_level(
        "{% for m in messages %}{% if 'bad' in m.content %}{{ raise_exception('No bad words') }}\
        {% endif %}{{ m.content }}<|im_end|>{% endfor %}",
    );
    let (folder, path) = file("a.jsonl", format!("{}{{\"input\": \"bad\", \"output\": \"y\"}}\n", rows(1)));
    let error = run(&options(&path, folder.path()), &tokenizer).unwrap_err().to_string();
    assert!(error.contains("line 2: ") && error.contains("No bad words"), "{error}");
}

#[test]
fn the_preview_shows_what_is_trained() {
    let tokenizer = byte_level(CHATML);
    let (_folder, path) = file("a.jsonl", "{oops\n{\"input\": \"hé 😀\", \"output\": \"yes 😀\"}\n");
    let shown = preview(&path, Task::TextGeneration, &tokenizer, 512, 5).unwrap();
    assert_eq!((shown.len(), shown[0].row), (1, 2), "usable rows, with their number");
    assert_eq!(shown[0].text, "<|im_start|>user\nhé 😀<|im_end|>\n<|im_start|>assistant\nyes 😀<|im_end|>\n");
    let text = |keep: fn(&types::dataset::PreviewToken) -> bool| -> String {
        shown[0].tokens.iter().filter(|t| keep(t)).map(|t| t.text.as_str()).collect()
    };
    assert_eq!(text(|_| true), shown[0].text, "the tokens spell the text");
    assert_eq!(text(|t| t.trained), "yes 😀<|im_end|>");
    assert_eq!(text(|t| t.special), "<|im_start|><|im_end|><|im_start|><|im_end|>");
    let (_folder, path) = file("b.jsonl", r#"{"prompt": "p", "chosen": "good", "rejected": "bad"}"#);
    let shown = preview(&path, Task::TextGeneration, &tokenizer, 512, 5).unwrap();
    assert_eq!((shown[0].row, shown[1].row), (1, 1), "both answers of a preference");
    assert!(shown[0].text.contains("good") && shown[1].text.contains("bad"));
}
