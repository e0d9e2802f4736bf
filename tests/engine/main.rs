//! The engine as a process: jobs that are killed, resumed, fought over or broken.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod control;
mod export;
mod inputs;
mod kills;
mod measure;
mod preferences;
mod quantised;
mod spans;
mod support;

use std::fs;

use serde_json::json;
use support::*;
use types::{JobFolder, TrainEvent, files};

#[test]
fn a_killed_run_resumes_and_equals_the_undisturbed_one() {
    for packing in [false, true] {
        let changes = json!({"packing": packing, "max_seq_length": 64, "gradient_checkpointing": packing});
        let (calm, rough) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let undisturbed = job(calm.path(), changes.clone());
        let (status, stderr) = run_to_end(&undisturbed);
        assert!(status.success(), "an undisturbed run ends well: {stderr}");

        let killed = job(rough.path(), changes);
        for at in [2, 4] {
            let mut engine = Engine::start(&killed);
            engine.until(|e| matches!(e, TrainEvent::Checkpoint { step, .. } if *step == at));
            engine.child.kill().unwrap();
            engine.finish();
        }
        let mut engine = Engine::start(&killed);
        let started = engine.until(|e| matches!(e, TrainEvent::Started { .. }));
        assert!(
            matches!(started, TrainEvent::Started { resumed_from: Some(4 | 6 | 8), .. }),
            "the newest whole checkpoint is taken up: {started:?}"
        );
        let (status, stderr) = engine.finish();
        assert!(status.success(), "a resumed run ends well: {stderr}");
        assert_eq!(
            losses(&killed),
            losses(&undisturbed),
            "resumed and uninterrupted losses are equal to the bit"
        );
        assert_eq!(adapter(rough.path()), adapter(calm.path()), "and so are the final weights");
    }
}

#[test]
fn the_finished_folder_is_whole_and_says_where_it_came_from() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({}));
    assert!(run_to_end(&job).0.success());
    let folder = home.path().join("models/model_20260101_000000");
    let manifest: types::Manifest =
        serde_json::from_slice(&fs::read(folder.join("modelforge.json")).unwrap()).unwrap();
    for file in &manifest.files {
        assert_eq!(files::sha256(&folder.join(&file.path)).unwrap(), file.sha256, "{}", file.path);
    }
    assert_eq!(manifest.dataset.sha256, files::sha256(&home.path().join("rows.jsonl")).unwrap());
    let weights = manifest.base_model.files.iter().find(|f| f.path == "model.safetensors").unwrap();
    assert_eq!(weights.sha256, files::sha256(&starter().join("model.safetensors")).unwrap());
    for metric in ["final_loss", "eval_loss", "perplexity"] {
        assert!(manifest.metrics.contains_key(metric), "{metric} was measured");
    }
    assert!(manifest.base_metrics.contains_key("eval_loss"), "and of the base model what it has");
    assert_eq!(
        (manifest.answered_rows, manifest.best_step),
        (None, None),
        "what was not asked for is absent"
    );
    for name in ["adapter_config.json", "tokenizer.json", "chat_template.jinja", "README.md"] {
        assert!(folder.join(name).is_file(), "{name} belongs to a model folder");
    }
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(card.contains("base_model: \"modelforge/starter\"") && card.contains("library_name: peft"));
    assert!(!card.contains(home.path().to_str().unwrap()), "a card tells no folder of this computer");
    let strays = fs::read_dir(home.path().join("models")).unwrap().count();
    assert_eq!(strays, 1, "nothing half-written stays beside the model");
}

#[test]
fn a_model_tells_its_scores_beside_those_of_its_base() {
    let home = tempfile::tempdir().unwrap();
    let settings = json!({"task": "summarization", "max_steps": 40, "eval_steps": 10, "learning_rate": 5e-3,
        "metric_for_best_model": "rouge1", "load_best_model_at_end": true, "early_stopping_patience": 2,
        "eval_answers": 2, "eval_split": 0.25});
    let job = job(home.path(), settings);
    let (status, stderr) = run_to_end(&job);
    assert!(status.success(), "{stderr}");
    let folder = home.path().join("models/model_20260101_000000");
    let manifest: types::Manifest =
        serde_json::from_slice(&fs::read(folder.join("modelforge.json")).unwrap()).unwrap();
    let evals: Vec<_> = events(&job)
        .into_iter()
        .filter_map(|event| match event {
            TrainEvent::Eval { step, metrics, answered_rows } => Some((step, metrics, answered_rows)),
            _ => None,
        })
        .collect();
    let best = evals[1..].iter().map(|(_, metrics, _)| metrics["rouge1"]).fold(0.0, f64::max);
    assert_eq!((evals[0].0, &evals[0].1), (0, &manifest.base_metrics), "the base model is measured first");
    assert!(evals.iter().all(|(_, _, rows)| *rows == Some(2)) && manifest.answered_rows == Some(2));
    assert_eq!(manifest.metrics["rouge1"], best, "the model is the best one's: {evals:?}");
    assert!(best > manifest.base_metrics["rouge1"], "training on such rows helps: {evals:?}");
    if let Some(step) = manifest.best_step {
        let of_step = evals.iter().find(|(of, _, _)| *of == step).unwrap();
        assert_eq!(of_step.1["eval_loss"], manifest.metrics["eval_loss"]);
    }
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    let (base, tuned) = (manifest.base_metrics["rougeL"], manifest.metrics["rougeL"]);
    assert!(card.contains(&format!("| rougeL | {base:.4} | {tuned:.4} | 2 |")), "{card}");
    let (base, tuned) = (manifest.base_metrics["eval_loss"], manifest.metrics["eval_loss"]);
    assert!(card.contains(&format!("| eval_loss | {base:.4} | {tuned:.4} | 3 |")), "{card}");
}

#[test]
fn a_second_engine_on_the_same_job_is_turned_away() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"max_steps": 1000}));
    let mut first = Engine::start(&job);
    first.until(|e| matches!(e, TrainEvent::Step(_)));
    let (status, stderr) = run_to_end(&job);
    assert_eq!(status.code(), Some(3), "the second engine says that the job is taken");
    assert!(stderr.contains("another engine is already working on"), "{stderr}");
    first.child.kill().unwrap();
    first.finish();
}

#[test]
fn a_job_that_cannot_be_trained_says_why_and_leaves_no_model() {
    type Damage = fn(&JobFolder);
    let cases: [(&str, Damage, &str); 6] = [
        ("no run.json", |job| fs::remove_file(job.run_json()).unwrap(), "run.json"),
        (
            "broken run.json",
            |job| files::write(&job.run_json(), b"{\"version\": 1,").unwrap(),
            "run.json: EOF",
        ),
        ("newer run.json", |job| edit(job, "version", json!(99)), "has version 99"),
        ("vanished dataset", |job| edit(job, "dataset_path", json!("/nowhere/rows.jsonl")), "File not found"),
        ("vanished model", |job| edit(job, "base_dir", json!("/nowhere/model")), "/nowhere/model"),
        ("no model at all", |job| edit(job, "base_dir", json!(job.path())), "config.json"),
    ];
    for (what, damage, told) in cases {
        let home = tempfile::tempdir().unwrap();
        let job = job(home.path(), json!({}));
        damage(&job);
        let (status, stderr) = run_to_end(&job);
        assert_eq!(status.code(), Some(1), "{what}: {stderr}");
        assert!(stderr.contains(told), "{what}: {stderr}");
        let last = events(&job).pop();
        assert!(
            matches!(&last, Some(TrainEvent::Finished { result, .. }) if !result.success && result.error.is_some()),
            "{what}: the log ends with the failure: {last:?}"
        );
        assert!(!home.path().join("models").exists(), "{what}: no model folder is made");
    }
}

#[test]
fn a_dataset_that_changed_is_told_when_the_run_is_resumed() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({}));
    let mut engine = Engine::start(&job);
    engine.until(|e| matches!(e, TrainEvent::Checkpoint { .. }));
    engine.child.kill().unwrap();
    engine.finish();
    let dataset = home.path().join("rows.jsonl");
    let changed = fs::read_to_string(&dataset).unwrap().replace("blue", "red");
    files::write(&dataset, changed.as_bytes()).unwrap();
    let (status, stderr) = run_to_end(&job);
    assert!(!status.success() && stderr.contains("rows.jsonl has changed since"), "{stderr}");
}
