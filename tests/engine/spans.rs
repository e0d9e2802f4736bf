//! Models that point at answers, from a dataset to an answer of the finished model: every family, both providers.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use types::{JobFolder, TrainEvent, files};

use crate::{
    export::{export, request},
    support::{BIN, Engine, adapter, edit, events, job, losses, run_to_end},
};

const FAMILIES: [&str; 4] = ["bert-span", "roberta-span-sharded-bf16", "distilbert-span-f16", "deberta-span"];
const CONTEXT: &str =
    "The keeper of the lighthouse counts the ferries. The book is on the table by the window.";

/// The folder of a tiny model.
pub fn base(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

/// A run on a tiny encoder and rows about one text, long enough for it to learn them by heart.
pub fn span_job(home: &Path, family: &str, changes: Value) -> JobFolder {
    let mut settings = json!({
        "task": "extractive-question-answering", "model_name": family, "max_steps": 160, "learning_rate": 0.006,
        "lora_dropout": 0.0, "max_seq_length": 64, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
        "save_steps": 80, "eval_steps": 160, "eval_split": 0.1,
    });
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let job = job(home, settings);
    let asked = [("Where is the book?", "on the table"), ("Who counts the ferries?", "The keeper")];
    let row = |(question, answer): (&str, &str)| {
        let answers = match answer {
            "" => json!({"text": [], "answer_start": []}),
            answer => json!({"text": [answer], "answer_start": [CONTEXT.find(answer).unwrap()]}),
        };
        json!({"context": CONTEXT, "question": question, "answers": answers}).to_string()
    };
    let rows: Vec<String> =
        asked.into_iter().chain([("What is left?", "")]).cycle().take(30).map(row).collect();
    files::write(&home.join("rows.jsonl"), rows.join("\n").as_bytes()).unwrap();
    edit(&job, "base_dir", json!(base(family)));
    job
}

/// What a chat engine answers to these requests, one after the other.
fn ask(requests: &[Value]) -> Vec<Value> {
    let mut child = Command::new(BIN)
        .args(["engine", "chat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut replies = Vec::new();
    for request in requests {
        writeln!(stdin, "{request}").unwrap();
        replies.extend(
            lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).find(|reply| {
                // The text comes before the end of an answer.
                reply["reply"] != "token"
            }),
        );
    }
    drop(stdin);
    child.wait().unwrap();
    replies
}

fn question(text: &str) -> Value {
    let message = format!("Context: {CONTEXT}\n\nQuestion: {text}");
    json!({"id": 2, "command": "generate", "input": {"messages": [{"role": "user", "content": message}]}, "params": {}})
}

#[test]
fn every_family_learns_is_saved_is_loaded_again_and_answers() {
    for family in FAMILIES {
        for provider in ["huggingface", "unsloth"] {
            let home = tempfile::tempdir().unwrap();
            let checkpointing = provider == "unsloth";
            let changes = json!({"provider": provider, "gradient_checkpointing": checkpointing, "packing": checkpointing});
            let job = span_job(home.path(), family, changes);
            let (status, stderr) = run_to_end(&job);
            assert!(status.success(), "{family}, {provider}: {stderr}");
            let losses: Vec<f64> = losses(&job).into_values().map(f64::from_bits).collect();
            let (first, last) = (losses[0], losses[159]);
            assert!(
                last < 0.3 && last < first / 4.0,
                "{family}, {provider}: the loss falls: {first} → {last}"
            );

            let folder = home.path().join("models/model_20260101_000000");
            let read = |name: &str| -> Value {
                serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
            };
            let described = read("adapter_config.json");
            assert_eq!(described["task_type"], "QUESTION_ANS");
            assert_eq!(described["modules_to_save"], json!(["qa_outputs"]));
            assert!(!folder.join("chat_template.jinja").exists(), "it holds no conversations");
            assert!(read("modelforge.json")["metrics"]["eval_loss"].as_f64().unwrap() < 1.0);

            let load = json!({"id": 1, "command": "load", "base_dir": base(family), "adapter_dir": folder});
            let chat = json!({"id": 3, "command": "generate", "input": {"text": "Where?"}, "params": {}});
            let mut untuned = question("Where is the book?");
            untuned["without_adapter"] = json!(true);
            let asked = ["Where is the book?", "Who counts the ferries?", "What is left?"].map(question);
            let replies = ask(&[&[load][..], &asked, &[chat, untuned]].concat());
            assert_eq!(replies[0]["reply"], "loaded", "{replies:?}");
            let texts: Vec<&str> =
                replies[1..4].iter().map(|reply| reply["text"].as_str().unwrap()).collect();
            assert_eq!(texts, ["on the table", "The keeper", ""], "{family}, {provider}: {replies:?}");
            let span = &replies[1]["stats"]["span"];
            assert_eq!(
                span["start"],
                json!(CONTEXT.find("on the table").unwrap()),
                "the place is told: {span}"
            );
            assert!(span["score"].as_f64().unwrap() > 0.5 && span["no_answer_score"].as_f64().unwrap() < 0.5);
            assert!(
                replies[4]["message"].as_str().unwrap().contains("give a question and a context"),
                "{replies:?}"
            );
            let untuned = &replies[5]["stats"]["span"];
            assert_ne!(untuned["score"], span["score"], "the base answers with its own head: {replies:?}");

            let (lines, code) = export(&request(home.path(), json!({"base_dir": base(family)})));
            assert_eq!(code, Some(0), "{family}: {lines:?}");
            assert_eq!(
                lines.last().unwrap()["written"]["checked"],
                true,
                "the exported model answers alike: {lines:?}"
            );
            let exported = home.path().join("export");
            let load = json!({"id": 1, "command": "load", "base_dir": exported, "adapter_dir": null});
            let replies = ask(&[load, question("Who counts the ferries?")]);
            assert_eq!(
                replies[1]["text"], "The keeper",
                "{family}: adapter and head are merged: {replies:?}"
            );
        }
    }
}

#[test]
fn a_killed_run_of_an_encoder_resumes_and_equals_the_undisturbed_one() {
    let (calm, rough) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let changes = json!({"lora_dropout": 0.1, "max_steps": 30, "save_steps": 10});
    let undisturbed = span_job(calm.path(), "deberta-span", changes.clone());
    assert!(run_to_end(&undisturbed).0.success());
    let killed = span_job(rough.path(), "deberta-span", changes);
    let mut engine = Engine::start(&killed);
    engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step == 13));
    engine.child.kill().unwrap();
    engine.finish();
    assert!(run_to_end(&killed).0.success());
    assert_eq!(
        losses(&killed),
        losses(&undisturbed),
        "the head and its optimizer's state are in the checkpoint"
    );
    assert_eq!(adapter(rough.path()), adapter(calm.path()));
}

#[test]
fn rows_that_cannot_be_pointed_at_end_the_run_or_are_told() {
    let bad = json!({"context": CONTEXT, "question": "Where?", "answer": "under the bed"}).to_string();
    for skip in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let job = span_job(home.path(), "bert-span", json!({"skip_bad_rows": skip, "max_steps": 2}));
        let good = json!({"context": CONTEXT, "question": "Where?", "answer": "the table"}).to_string();
        let rows = [good.as_str(), &bad, &good, &good].join("\n");
        files::write(&home.path().join("rows.jsonl"), rows.as_bytes()).unwrap();
        let (status, stderr) = run_to_end(&job);
        let told = "line 2: the answer \"under the bed\" is not in the context";
        assert_eq!(status.success(), skip, "{stderr}");
        if !skip {
            assert!(stderr.contains(told), "{stderr}");
            continue;
        }
        let warned = |e: &TrainEvent| matches!(e, TrainEvent::Warning { message } if message.contains(told));
        let counted = |e: &TrainEvent| matches!(e, TrainEvent::Prepared { skipped_rows: 1, .. });
        let events = events(&job);
        assert!(events.iter().any(warned) && events.iter().any(counted), "{events:?}");
    }
}
