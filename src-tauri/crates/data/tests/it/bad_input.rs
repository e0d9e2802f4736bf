//! Every file and row that is refused says what is wrong, where, and what to do.

use std::{fs, path::Path};

use data::{DataError, check};
use types::{Strategy, Task};

use crate::support::file;

const LIMIT: usize = 50;

/// What checking a text-generation dataset says.
fn refusal(path: &Path) -> String {
    check(path, Task::TextGeneration, Strategy::Sft, LIMIT).unwrap_err().to_string()
}

#[test]
fn files_that_are_no_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.jsonl");
    assert_eq!(refusal(&missing), "Dataset validation failed: File not found", "the documented sentence");
    assert!(
        refusal(folder.path()).ends_with("this is a folder; give the dataset file in it"),
        "a folder is no file"
    );

    let cases: &[(&str, &[u8], &str)] = &[
        ("a.jsonl", b"", "the file is empty"),
        ("a.csv", b"", "the file is empty"),
        ("a.json", b"\xef\xbb\xbf \r\n", "the file is empty"),
        ("a.parquet", b"", "the file is empty"),
        ("a.jsonl", b"\xff\xfe{\0", "the file is written in UTF-16; save it as UTF-8"),
        ("a.csv", b"a\0,\0b\0", "the file is written in UTF-16 or UTF-32, or is no text; save it as UTF-8"),
        ("a.jsonl", b"\x1f\x8b\x08rest", "the file is compressed (gzip); unpack it first"),
        ("a.jsonl.zip", b"PK\x03\x04rest", "the file is compressed (zip); unpack it first"),
        ("a.json", b"{\n \"input\": 1\n}\n", "one JSON object instead of rows"),
        ("a.txt", b"once upon a time", "the format is not known; use .jsonl, .json, .csv or .parquet"),
        ("a.parquet", b"{\"input\": 1}", "the file is damaged: it is not Parquet"),
        ("a.parquet", b"PAR1 and no more", "the file is damaged: "),
        ("a.csv", b"a,b,a\n1,2,3\n", "line 1: column 3 has the name of another column"),
        ("a.csv", b"a,,b\n1,2,3\n", "line 1: column 2 has no name"),
    ];
    for (name, content, want) in cases {
        let (_folder, path) = file(name, content);
        let got = refusal(&path);
        assert!(got.starts_with("Dataset validation failed: "), "{name}: {got}");
        assert!(got.contains(want), "{name} {content:?} must be refused with {want:?}: {got}");
    }
    let wide: Vec<String> = (0..1001).map(|i| i.to_string()).collect();
    let (_folder, path) = file("a.csv", wide.join(","));
    assert!(refusal(&path).contains("1001 columns, at most 1000 are read"), "width is limited");
}

#[cfg(unix)]
#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = file("a.jsonl", "{}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::File::open(&path).is_ok() {
        println!("skipped: this user may read every file");
        return;
    }
    let got = refusal(&path);
    assert!(got.contains("a.jsonl") && got.contains("ermission denied"), "file and reason are named: {got}");
}

/// Rows that are bad among rows that are good: each error as it is told.
fn errors(name: &str, text: impl AsRef<[u8]>, task: Task, strategy: Strategy) -> (u64, Vec<String>) {
    let (_folder, path) = file(name, text);
    let report = check(&path, task, strategy, LIMIT).unwrap();
    assert_eq!(report.rows - report.error_count, report.usable_rows, "{name}: a row is usable or bad");
    (report.usable_rows, report.errors.iter().map(ToString::to_string).collect())
}

#[test]
fn broken_json_at_line_7_of_9_is_one_bad_row() {
    let good = r#"{"input": "a", "output": "b"}"#;
    for broken in [
        r#"{"input": "a, "output": "b"}"#,
        r#"{"input": "a" "output": "b"}"#,
        r#"{"input": "a", "output": "b"#,
    ] {
        let mut lines = [good; 9];
        lines[6] = broken;
        let cases = [("a.jsonl", lines.join("\n")), ("a.json", format!("[{}]", lines.join(",\n")))];
        for (name, text) in cases {
            let (usable, errors) = errors(name, text, Task::TextGeneration, Strategy::Sft);
            assert_eq!((usable, errors.len()), (8, 1), "{name} {broken}: the rest goes on: {errors:?}");
            assert!(errors[0].starts_with("line 7: broken JSON"), "{name} {broken}: {errors:?}");
        }
    }
}

#[test]
fn arrays_that_are_broken_between_rows() {
    let row = r#"{"input": "a", "output": "b"}"#;
    let cases = [
        (format!("[{row},\n{row}"), 2, "line 2: the file ends before the array does: it was cut off"),
        (format!("[{row}\n{row}]"), 1, "line 2: a comma is missing between this row and the one before"),
        (format!("[{row}]\nmore"), 1, "line 2: text after the end of the array; remove it"),
        (format!("[{row},\n7,{row}]"), 2, "line 2: a row must be a JSON object {…}, not a number"),
    ];
    for (text, usable, want) in cases {
        let got = errors("a.json", &text, Task::TextGeneration, Strategy::Sft);
        assert_eq!(got, (usable, vec![want.to_owned()]), "{text}");
    }
}

#[test]
fn rows_that_are_bad() {
    let chat = |messages: &str| format!("{{\"messages\": [{messages}]}}");
    let user = r#"{"role": "user", "content": "Q"}"#;
    let assistant = r#"{"role": "assistant", "content": "A"}"#;
    let good_chat = chat(&format!("{user}, {assistant}"));
    let good_pair = r#"{"input": "a", "output": "b"}"#.to_owned();
    let good_squad =
        r#"{"context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}"#.to_owned();
    let good_preference = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#.to_owned();
    let qa = Task::ExtractiveQuestionAnswering;
    let text = Task::TextGeneration;
    let cases: Vec<(&str, Task, &String, String, &str)> = vec![
        ("missing", text, &good_pair, r#"{"input": "a"}"#.into(), "missing field \"output\""),
        ("null", text, &good_pair, r#"{"input": "a", "output": null}"#.into(), "missing field \"output\""),
        (
            "type",
            text,
            &good_pair,
            r#"{"input": 7, "output": "b"}"#.into(),
            "field \"input\" must be text, not a number",
        ),
        ("blank", text, &good_pair, r#"{"input": "a", "output": " "}"#.into(), "field \"output\" is empty"),
        ("list", text, &good_pair, "[1]".into(), "a row must be a JSON object {…}, not a list"),
        (
            "other form",
            text,
            &good_pair,
            good_chat.clone(),
            "has the fields messages, while the rows before have input and output; a dataset has one form",
        ),
        (
            "no list",
            text,
            &good_chat,
            r#"{"messages": "hi"}"#.into(),
            "field \"messages\" must be a list of {\"role\": …, \"content\": …}, not text",
        ),
        ("no turns", text, &good_chat, chat(""), "field \"messages\" is empty"),
        (
            "role",
            text,
            &good_chat,
            chat(&format!(r#"{user}, {{"role": "tool", "content": "A"}}"#)),
            "field \"messages[1].role\" is \"tool\"; known are system, user (human) and assistant (gpt)",
        ),
        (
            "content",
            text,
            &good_chat,
            chat(&format!(r#"{{"role": "user"}}, {assistant}"#)),
            "missing field \"messages[0].content\"",
        ),
        (
            "no answer",
            text,
            &good_chat,
            chat(user),
            "field \"messages\" must end with a message of the assistant, which is what is trained",
        ),
        (
            "no question",
            text,
            &good_chat,
            chat(assistant),
            "field \"messages\" needs a message of the user before the assistant's",
        ),
        (
            "late system",
            text,
            &good_chat,
            chat(&format!(r#"{user}, {{"role": "system", "content": "s"}}, {assistant}"#)),
            "field \"messages[1]\" is a system message, which can only come first",
        ),
        (
            "place",
            qa,
            &good_squad,
            r#"{"context": "c", "question": "q", "answers": {"text": ["c"], "answer_start": ["0"]}}"#.into(),
            "field \"answers.answer_start\" must hold whole numbers, not \"0\"",
        ),
        (
            "answers",
            qa,
            &good_squad,
            r#"{"context": "c", "question": "q", "answers": "a"}"#.into(),
            "field \"answers\" must be {\"text\": [\"…\"], \"answer_start\": [0]}",
        ),
        (
            "same",
            text,
            &good_preference,
            r#"{"prompt": "p", "chosen": "c", "rejected": "c"}"#.into(),
            "field \"rejected\" is the same as \"chosen\"",
        ),
        (
            "deep",
            text,
            &good_pair,
            format!("{{\"input\": {}}}", "[".repeat(200)),
            "broken JSON at column 137: recursion limit exceeded",
        ),
    ];
    for (what, task, good, bad, want) in cases {
        let strategy = if good == &good_preference { Strategy::Dpo } else { Strategy::Sft };
        let got = errors("a.jsonl", format!("{good}\n\n{bad}\n{good}"), task, strategy);
        assert_eq!(got, (2, vec![format!("line 3: {want}")]), "{what}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_one_bad_row() {
    let good: &[u8] = b"{\"input\": \"a\", \"output\": \"b\"}";
    let bad: &[u8] = b"{\"input\": \"\xff\", \"output\": \"b\"}";
    let lines = [good, bad, good].join(&b'\n');
    let (usable, found) = errors("a.jsonl", lines, Task::TextGeneration, Strategy::Sft);
    assert_eq!((usable, found), (2, vec!["line 2: not UTF-8 at byte 12 of the row".to_owned()]));
    let (usable, found) =
        errors("a.csv", b"input,output\na,b\n\xff,b\n", Task::TextGeneration, Strategy::Sft);
    assert_eq!((usable, found), (1, vec!["line 3: field \"input\" is not UTF-8".to_owned()]));
}

#[test]
fn csv_rows_of_another_width_and_quotes_that_do_not_close() {
    let text = "input,output\na,b\nx,y,z\nonly\n\"c\nd\",e\n";
    let (usable, found) = errors("a.csv", text, Task::TextGeneration, Strategy::Sft);
    assert_eq!(usable, 2, "{found:?}");
    assert!(found[0].starts_with("line 3: 3 fields, but the header has 2; put fields"), "{found:?}");
    assert!(found[1].starts_with("line 4: 1 fields, but the header has 2"), "{found:?}");
    let endless = format!("input,output\na,b\n\"{}", "x\n".repeat(data::MAX_ROW_BYTES / 2 + (1 << 17)));
    let (_folder, path) = file("a.csv", endless);
    assert!(refusal(&path).contains("is a double quote not closed?"), "one row never fills the memory");
}

#[test]
fn rows_longer_than_the_limit_are_bad_and_the_next_goes_on() {
    let good = r#"{"input": "a", "output": "b"}"#;
    let long = format!("{{\"input\": \"{}\"}}", "x".repeat(data::MAX_ROW_BYTES));
    for (name, text) in
        [("a.jsonl", format!("{good}\n{long}\n{good}")), ("a.json", format!("[{good},\n{long},{good}]"))]
    {
        let (usable, found) = errors(name, text, Task::TextGeneration, Strategy::Sft);
        assert_eq!((usable, found.len()), (2, 1), "{name}");
        assert!(
            found[0].starts_with("line 2: the ") && found[0].ends_with("longer than 64 MiB"),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn every_field_of_a_row_is_told_and_errors_are_collected_to_the_limit() {
    let mut text = String::from("{\"input\": \"a\", \"output\": \"b\"}\n");
    text.push_str(&"{\"other\": 1}\n".repeat(30));
    let (_folder, path) = file("a.jsonl", text);
    let report = check(&path, Task::TextGeneration, Strategy::Sft, 7).unwrap();
    assert_eq!((report.error_count, report.errors.len()), (30, 7), "all are counted, some are kept");
    let fields: Vec<_> = report.errors[..2].iter().map(|e| (e.line, e.field.as_deref().unwrap())).collect();
    assert_eq!(fields, [(Some(2), "input"), (Some(2), "output")], "both fields of the row, with its line");
}

#[test]
fn forms_that_do_not_go_with_the_task() {
    let cases = [
        (
            r#"{"context": "c", "question": "q", "answer": "a"}"#,
            Task::Summarization,
            Strategy::Sft,
            ["context, question and answer", "document and summary"],
        ),
        (
            r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#,
            Task::TextGeneration,
            Strategy::Sft,
            ["strategy sft", "input and output"],
        ),
        (
            r#"{"input": "p", "output": "c"}"#,
            Task::TextGeneration,
            Strategy::Dpo,
            ["strategy dpo", "prompt, chosen and rejected"],
        ),
    ];
    for (text, task, strategy, wants) in cases {
        let (_folder, path) = file("a.jsonl", text);
        let error = check(&path, task, strategy, LIMIT).unwrap_err();
        assert!(matches!(error, DataError::WrongForm { .. }), "{text}: {error}");
        for want in wants {
            assert!(error.to_string().contains(want), "{text}: {error}");
        }
    }
    let (_folder, path) = file("a.jsonl", r#"{"frage": "x", "antwort": "y"}"#);
    let got = refusal(&path);
    assert!(
        got.contains("frage, antwort") && got.contains("instruction and output"),
        "both sides are named: {got}"
    );
}

#[test]
fn a_dataset_without_one_full_row_is_told_what_is_missing() {
    let (usable, found) = errors("a.csv", "input,foo\na,b\n", Task::TextGeneration, Strategy::Sft);
    assert_eq!((usable, found), (0, vec!["line 2: missing field \"output\"".to_owned()]));
    let (usable, found) = errors("a.jsonl", "{oops\n{oops\n", Task::TextGeneration, Strategy::Sft);
    assert_eq!((usable, found.len()), (0, 2), "nothing readable is a report, too");
    let (usable, found) = errors("a.csv", "input,output\n", Task::TextGeneration, Strategy::Sft);
    assert_eq!((usable, found.len()), (0, 0), "a header alone has no rows");
}
