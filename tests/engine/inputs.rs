//! Datasets of every form and format, and base models that are damaged.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use types::{EventLine, TrainEvent, files};

use crate::support::*;

/// One row of every form, told apart by `i`, and the task that it goes with.
type Form = fn(usize) -> serde_json::Value;
const FORMS: [(&str, &str, Form); 7] = [
    (
        "input/output",
        "text-generation",
        |i| json!({"input": format!("Where is box {i}?"), "output": "In the mill."}),
    ),
    (
        "document/summary",
        "summarization",
        |i| json!({"document": format!("Box {i} is big."), "summary": "A box."}),
    ),
    (
        "context/question/answer",
        "extractive-question-answering",
        |i| json!({"context": format!("Box {i} is in the mill."), "question": "Where is it?", "answer": "the mill"}),
    ),
    ("SQuAD", "extractive-question-answering", |i| {
        let answers = json!({"text": ["the mill"], "answer_start": [13]});
        json!({"context": format!("Box {} is in the mill.", i % 10), "question": "Where?", "answers": answers})
    }),
    ("messages", "text-generation", |i| {
        let ask = json!({"role": "user", "content": format!("Where is box {i}?")});
        json!({"messages": [{"role": "system", "content": "Be brief."}, ask, {"role": "assistant", "content": "Here."}]})
    }),
    ("ShareGPT", "text-generation", |i| {
        let ask = json!({"from": "human", "value": format!("Where is box {i}?")});
        json!({"conversations": [ask, {"from": "gpt", "value": "Here."}]})
    }),
    (
        "Alpaca",
        "text-generation",
        |i| json!({"instruction": "Name the colour.", "input": format!("Box {i} is blue."), "output": "Blue."}),
    ),
];

#[test]
fn twenty_rows_of_every_form_train() {
    for (form, task, row) in FORMS {
        let rows: Vec<serde_json::Value> = (0..20).map(row).collect();
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        let mut files = vec![("rows.jsonl", lines.join("\n"))];
        // Once around the formats is enough: what they read is the same rows.
        if form == "input/output" {
            files.push(("array.json", format!("[{}]", lines.join(",\n"))));
            let cells = rows.iter().map(|r| format!("{},{}", r["input"], r["output"]));
            files.push(("rows.csv", format!("input,output\n{}", cells.collect::<Vec<_>>().join("\n"))));
        }
        for (name, text) in files {
            let home = tempfile::tempdir().unwrap();
            let job = job(home.path(), json!({"task": task, "max_steps": 1}));
            let path = home.path().join(name);
            files::write(&path, text.as_bytes()).unwrap();
            edit(&job, "dataset_path", json!(path));
            let (status, stderr) = run_to_end(&job);
            assert!(status.success(), "{form} in {name}: {stderr}");
            let prepared = events(&job).into_iter().find_map(|e| match e {
                TrainEvent::Prepared { train_rows, eval_rows, .. } => Some((train_rows, eval_rows)),
                _ => None,
            });
            assert_eq!(prepared, Some((16, 4)), "{form} in {name}: every row is used once");
        }
    }
}

#[test]
fn rows_of_a_parquet_file_train() {
    use parquet::{
        data_type::{ByteArray, ByteArrayType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"max_steps": 1}));
    let path = home.path().join("rows.parquet");
    let schema = "message rows { required binary input (UTF8); required binary output (UTF8); }";
    let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
    let options = std::sync::Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(fs::File::create(&path).unwrap(), schema, options).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for word in ["Where is box", "Here is box"] {
        let cells: Vec<ByteArray> = (0..20).map(|i| format!("{word} {i}").into_bytes().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&cells, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    edit(&job, "dataset_path", json!(path));
    let (status, stderr) = run_to_end(&job);
    assert!(status.success(), "{stderr}");
}

#[test]
fn a_damaged_base_model_is_told_by_file_and_makes_no_model() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &[&str]); 8] = [
        (
            "unknown architecture",
            |f| config(f, "architectures", json!(["MambaForCausalLM"])),
            &["config.json", "Mamba"],
        ),
        ("absurd size", |f| config(f, "hidden_size", json!(1u64 << 40)), &["config.json", "hidden_size"]),
        ("other size", |f| config(f, "intermediate_size", json!(768)), &["model.safetensors", "gate_proj"]),
        ("truncated weights", |f| cut(f, 1 << 20), &["model.safetensors"]),
        ("header only", |f| cut(f, 4), &["model.safetensors"]),
        ("lying header", |f| patch(f, 0, &u64::MAX.to_le_bytes()), &["model.safetensors"]),
        ("no tokenizer", |f| fs::remove_file(f.join("tokenizer.json")).unwrap(), &["tokenizer.json"]),
        ("tokenizer without EOS", without_eos, &["end-of-sequence"]),
    ];
    for (what, damage, told) in cases {
        let home = tempfile::tempdir().unwrap();
        let job = job(home.path(), json!({}));
        let model = home.path().join("base");
        fs::create_dir(&model).unwrap();
        for entry in fs::read_dir(starter()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
        }
        damage(&model);
        edit(&job, "base_dir", json!(model));
        let (status, stderr) = run_to_end(&job);
        assert_eq!(status.code(), Some(1), "{what}: {stderr}");
        for want in told {
            assert!(stderr.contains(want), "{what} should tell {want:?}: {stderr}");
        }
        assert!(!home.path().join("models").exists(), "{what}: no model folder is made");
    }
}

fn config(model: &Path, key: &str, value: serde_json::Value) {
    change(&model.join("config.json"), |all| all[key] = value);
}

fn change(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut all: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut all);
    files::write_json(path, &all).unwrap();
}

fn cut(model: &Path, length: u64) {
    fs::File::options().write(true).open(model.join("model.safetensors")).unwrap().set_len(length).unwrap();
}

fn patch(model: &Path, at: usize, bytes: &[u8]) {
    let path = model.join("model.safetensors");
    let mut all = fs::read(&path).unwrap();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    files::write(&path, &all).unwrap();
}

fn without_eos(model: &Path) {
    for name in ["config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"]
    {
        change(&model.join(name), |all| {
            all.as_object_mut().unwrap().retain(|key, _| !key.starts_with("eos_token"));
        });
    }
}

#[test]
fn a_second_dataset_is_measured_on_and_a_sample_gives_its_held_out_rows() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(BIN)
        .args([
            "train",
            "--task=text-generation",
            "--model-name=modelforge/starter",
            "--dataset=sample:order-slips",
        ])
        .args(["--eval-dataset=sample:order-slips", "--max-steps=1", "--eval-split=0", "--json"])
        .env("MODELFORGE_HOME", home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<TrainEvent> =
        lines.lines().map(|line| serde_json::from_str::<EventLine>(line).unwrap().event).collect();
    let rows = events.iter().find_map(|event| match event {
        TrainEvent::Prepared { train_rows, eval_rows, .. } => Some((*train_rows, *eval_rows)),
        _ => None,
    });
    assert_eq!(rows, Some((240, 60)), "all training rows are trained on and the held-out rows measured on");
    let measured = events
        .iter()
        .any(|e| matches!(e, TrainEvent::Eval { metrics, .. } if metrics.contains_key("eval_loss")));
    assert!(measured, "the second dataset is measured on");
}
