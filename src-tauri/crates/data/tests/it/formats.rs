//! The tour of formats: the same 20 rows in every form and every file format mean the same.

use std::{fs::File, path::Path, sync::Arc};

use data::{Example, examples};
use parquet::{
    data_type::{ByteArray, ByteArrayType, Int32Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use serde_json::{Value, json};
use types::{Message, Strategy, Task, dataset::RowForm};

use crate::support::exchange;

const ROWS: usize = 20;

fn prompt(i: usize) -> String {
    format!("Question {i}:\nwhat is \"{}\", née {i}?", "x,y;".repeat(i % 3 + 1))
}

fn answer(i: usize) -> String {
    format!("Answer {i} 😀")
}

/// A form as JSON rows, the task it is for, and what each row must mean.
struct Form {
    form: RowForm,
    task: Task,
    strategy: Strategy,
    row: fn(usize) -> Value,
    means: fn(usize) -> Example,
}

fn chat(i: usize) -> Example {
    Example::Chat { messages: exchange(&prompt(i), &answer(i)) }
}

fn pair(i: usize) -> Example {
    Example::Pair { input: prompt(i), output: answer(i) }
}

fn question(i: usize) -> Example {
    Example::Question {
        context: prompt(i),
        question: format!("Which {i}?"),
        answers: vec![answer(i)],
        start: None,
    }
}

/// The same as SQuAD has it, with a place.
fn placed(i: usize) -> Example {
    match question(i) {
        Example::Question { context, question, answers, .. } => {
            Example::Question { context, question, answers, start: Some(i) }
        }
        other => other,
    }
}

const FORMS: &[Form] = &[
    Form {
        form: RowForm::InputOutput,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        row: |i| json!({"input": prompt(i), "output": answer(i)}),
        means: pair,
    },
    Form {
        form: RowForm::InputOutput,
        task: Task::Summarization,
        strategy: Strategy::Qlora,
        row: |i| json!({"id": i.to_string(), "input": prompt(i), "output": answer(i)}),
        means: pair,
    },
    Form {
        form: RowForm::DocumentSummary,
        task: Task::Summarization,
        strategy: Strategy::Sft,
        row: |i| json!({"document": prompt(i), "summary": answer(i)}),
        means: pair,
    },
    Form {
        form: RowForm::ContextQuestionAnswer,
        task: Task::ExtractiveQuestionAnswering,
        strategy: Strategy::Sft,
        row: |i| json!({"context": prompt(i), "question": format!("Which {i}?"), "answer": answer(i)}),
        means: question,
    },
    Form {
        form: RowForm::Squad,
        task: Task::ExtractiveQuestionAnswering,
        strategy: Strategy::Sft,
        row: |i| {
            let answers = json!({"text": [answer(i)], "answer_start": [i]});
            json!({"context": prompt(i), "question": format!("Which {i}?"), "answers": answers})
        },
        means: placed,
    },
    Form {
        form: RowForm::Messages,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        row: |i| json!({"messages": [{"role": "user", "content": prompt(i)}, {"role": "assistant", "content": answer(i)}]}),
        means: chat,
    },
    Form {
        form: RowForm::ShareGpt,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        row: |i| json!({"conversations": [{"from": "human", "value": prompt(i)}, {"from": "gpt", "value": answer(i)}]}),
        means: chat,
    },
    Form {
        form: RowForm::Alpaca,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        row: |i| json!({"instruction": prompt(i), "input": "", "output": answer(i)}),
        means: chat,
    },
    Form {
        form: RowForm::Preference,
        task: Task::TextGeneration,
        strategy: Strategy::Dpo,
        row: |i| json!({"prompt": prompt(i), "chosen": answer(i), "rejected": "No."}),
        means: |i| Example::Preference {
            prompt: vec![Message::user(prompt(i))],
            chosen: vec![Message::assistant(answer(i))],
            rejected: vec![Message::assistant("No.")],
        },
    },
];

fn write_csv(path: &Path, rows: &[Value], delimiter: u8) {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_path(path).unwrap();
    writer.write_record(rows[0].as_object().unwrap().keys()).unwrap();
    for row in rows {
        let cells = row.as_object().unwrap().values();
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        writer.write_record(cells.map(text)).unwrap();
    }
    writer.flush().unwrap();
}

/// Columns of text; lists of turns and SQuAD's answers as Parquet's own lists and groups.
fn write_parquet(path: &Path, rows: &[Value]) {
    let names: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let column = |name: &&String| match rows[0][name.as_str()] {
        Value::Array(ref turns) => {
            let parts = turns[0].as_object().unwrap().keys();
            let parts: String = parts.map(|part| format!("required binary {part} (UTF8);")).collect();
            format!(
                "required group {name} (LIST) {{ repeated group list {{ required group element {{ {parts} }} }} }}"
            )
        }
        Value::Object(_) => format!(
            "required group {name} {{ \
               required group text (LIST) {{ repeated group list {{ required binary element (UTF8); }} }} \
               required group answer_start (LIST) {{ repeated group list {{ required int32 element; }} }} }}"
        ),
        _ => format!("optional binary {name} (UTF8);"),
    };
    let schema = format!("message rows {{ {} }}", names.iter().map(column).collect::<String>());
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    for group in rows.chunks(7) {
        let mut out = writer.next_row_group().unwrap();
        for name in &names {
            let values = || group.iter().map(|row| &row[name.as_str()]);
            let text = |value: &Value| ByteArray::from(value.as_str().unwrap());
            let first = values().next().unwrap();
            let columns: Vec<Vec<Vec<Value>>> = match first {
                Value::Array(turns) => {
                    let parts: Vec<String> = turns[0].as_object().unwrap().keys().cloned().collect();
                    let of = |part: &String| {
                        let lists =
                            values().map(|v| v.as_array().unwrap().iter().map(|t| t[part].clone()).collect());
                        lists.collect()
                    };
                    parts.iter().map(of).collect()
                }
                Value::Object(answers) => {
                    let of = |part: &String| values().map(|v| v[part].as_array().unwrap().clone()).collect();
                    answers.keys().map(of).collect()
                }
                _ => {
                    let mut column = out.next_column().unwrap().unwrap();
                    let cells: Vec<ByteArray> = values().map(text).collect();
                    let levels = vec![1; cells.len()];
                    column.typed::<ByteArrayType>().write_batch(&cells, Some(&levels), None).unwrap();
                    column.close().unwrap();
                    continue;
                }
            };
            for lists in columns {
                let defined: Vec<i16> = vec![1; lists.iter().map(Vec::len).sum()];
                let repeated: Vec<i16> =
                    lists.iter().flat_map(|list| (0..list.len()).map(|i| i16::from(i > 0))).collect();
                let cells: Vec<Value> = lists.concat();
                let mut column = out.next_column().unwrap().unwrap();
                if cells[0].is_string() {
                    let cells: Vec<ByteArray> = cells.iter().map(text).collect();
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&cells, Some(&defined), Some(&repeated))
                        .unwrap();
                } else {
                    let cells: Vec<i32> = cells.iter().map(|c| c.as_i64().unwrap() as i32).collect();
                    column.typed::<Int32Type>().write_batch(&cells, Some(&defined), Some(&repeated)).unwrap();
                }
                column.close().unwrap();
            }
        }
        out.close().unwrap();
    }
    writer.close().unwrap();
}

/// Every way to write the rows to a file.
fn write_all(folder: &Path, rows: &[Value]) -> Vec<&'static str> {
    let put = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    put("rows.jsonl", lines.join("\n"));
    put("crlf.jsonl", format!("\u{feff}{}\r\n\r\n", lines.join("\r\n\r\n")));
    put("lines.json", lines.join("\n"));
    put("array.json", format!("\u{feff} [{}]\n", lines.join(",")));
    put("pretty.json", serde_json::to_string_pretty(rows).unwrap());
    put("array.jsonl", format!("[\n{}\n]", lines.join(",\n")));
    write_csv(&folder.join("rows.csv"), rows, b',');
    write_csv(&folder.join("semicolon.csv"), rows, b';');
    write_csv(&folder.join("rows.tsv"), rows, b'\t');
    write_parquet(&folder.join("rows.parquet"), rows);
    std::fs::copy(folder.join("rows.parquet"), folder.join("no_extension")).unwrap();
    vec![
        "rows.jsonl",
        "crlf.jsonl",
        "lines.json",
        "array.json",
        "pretty.json",
        "array.jsonl",
        "rows.csv",
        "semicolon.csv",
        "rows.tsv",
        "rows.parquet",
        "no_extension",
    ]
}

#[test]
fn every_form_in_every_format_means_the_same() {
    for Form { form, task, strategy, row, means } in FORMS {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<Value> = (0..ROWS).map(row).collect();
        for name in write_all(folder.path(), &rows) {
            let path = folder.path().join(name);
            let mut found = examples(&path, *task, *strategy).unwrap();
            assert_eq!(found.form(), Some(*form), "{form:?} in {name}: the form is found");
            for i in 0..ROWS {
                let got = found.next_row().unwrap().unwrap().unwrap();
                assert_eq!(got.example, means(i), "{form:?} in {name}: row {i} means what was written");
                assert_eq!(got.row, i as u64 + 1, "{form:?} in {name}: rows count from 1");
            }
            assert!(found.next_row().unwrap().is_none(), "{form:?} in {name}: {ROWS} rows, no more");
            let report = data::check(&path, *task, *strategy, 5).unwrap();
            assert_eq!(
                (report.rows, report.usable_rows, report.error_count),
                (20, 20, 0),
                "{form:?} in {name}"
            );
        }
    }
}

#[test]
fn rows_know_the_line_they_begin_on() {
    let check = |name: &str, text: &str, lines: &[u64]| {
        let (_folder, path) = crate::support::file(name, text);
        let found: Vec<u64> = data::open(&path).unwrap().map(|row| row.unwrap().line.unwrap()).collect();
        assert_eq!(found, lines, "{name}: {text:?}");
    };
    check("a.jsonl", "{\"a\":1}\n\n \n{\"a\":2}\r\n{\"a\":3}", &[1, 4, 5]);
    check("a.json", "\n[\n{\"a\":\n1},{\"a\":\"[}\\\"\\n\"}\n\n,\n{}]", &[3, 4, 7]);
    check("a.csv", "a,b\n1,2\n\"x\ny\nz\",3\n4,5\n", &[2, 3, 6]);
}

#[test]
fn a_task_makes_its_prompt() {
    let check = |example: Example, task, want: &str| {
        let messages = example.to_messages(task);
        assert_eq!(messages[0], Message::user(want), "{task}: the prompt's form is fixed");
        assert_eq!(
            messages.last().unwrap(),
            &Message::assistant(answer(0)),
            "{task}: the answer is the assistant's"
        );
        assert_eq!(example.prompt_messages(task), messages[..1], "{task}: the question without its answer");
        assert_eq!(example.answers(), [answer(0)], "{task}: what counts as right");
    };
    let text = prompt(0);
    check(pair(0), Task::TextGeneration, &text);
    check(pair(0), Task::Summarization, &format!("Summarize the following text.\n\n{text}"));
    let asked = format!("Context: {text}\n\nQuestion: Which 0?");
    check(question(0), Task::ExtractiveQuestionAnswering, &asked);
    check(chat(0), Task::Summarization, &text);
}

#[test]
fn alpaca_joins_instruction_and_input() {
    let text = r#"{"instruction": "Translate.", "input": "Haus", "output": "house"}
                  {"instruction": "Say hi.", "output": "hi"}
                  {"instruction": "Say hi.", "input": null, "output": "hi"}"#;
    let (_folder, path) = crate::support::file("a.jsonl", text);
    let mut found = examples(&path, Task::TextGeneration, Strategy::Sft).unwrap();
    for want in ["Translate.\n\nHaus", "Say hi.", "Say hi."] {
        let got = found.next_row().unwrap().unwrap().unwrap();
        assert_eq!(
            got.example.to_messages(Task::TextGeneration)[0],
            Message::user(want),
            "input is optional"
        );
    }
}

#[test]
fn preferences_may_be_lists_and_repeat_the_prompt() {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let (ask, good, bad) = (turn("user", "Q"), turn("assistant", "A"), turn("assistant", "B"));
    let rows = [
        json!({"prompt": "Q", "chosen": "A", "rejected": "B"}),
        json!({"prompt": [ask], "chosen": [good], "rejected": [bad]}),
        json!({"prompt": "Q", "chosen": [ask, good], "rejected": [ask, bad]}),
    ];
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let (_folder, path) = crate::support::file("a.jsonl", lines.join("\n"));
    let mut found = examples(&path, Task::TextGeneration, Strategy::Dpo).unwrap();
    for row in 1..=3 {
        let got = found.next_row().unwrap().unwrap().unwrap();
        assert_eq!(
            got.example.to_messages(Task::TextGeneration),
            exchange("Q", "A"),
            "row {row}: the better answer"
        );
        assert_eq!(
            got.example.rejected_messages().unwrap(),
            exchange("Q", "B"),
            "row {row}: the worse answer"
        );
    }
}
