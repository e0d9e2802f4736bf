//! Pairs of answers, from a dataset to a model that prefers the better ones.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use types::{JobFolder, Manifest, Phase, TrainEvent};

use crate::support::{Engine, adapter, edit, events, job, losses, run_to_end};

/// A run on the sample of polite and curt answers.
fn polite_job(home: &Path, changes: Value) -> JobFolder {
    let mut settings = json!({
        "strategy": "dpo", "learning_rate": 1e-3, "beta": 0.1, "lora_r": 16, "lora_dropout": 0.0,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "per_device_eval_batch_size": 8,
        "max_steps": 25, "eval_steps": 25, "save_steps": 25,
    });
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let job = job(home, settings);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/samples/polite");
    edit(&job, "dataset_path", json!(sample.join("train.jsonl")));
    edit(&job, "eval_dataset_path", json!(sample.join("heldout.jsonl")));
    job
}

fn manifest(home: &Path) -> Manifest {
    let folder = home.join("models/model_20260101_000000");
    serde_json::from_slice(&fs::read(folder.join("modelforge.json")).unwrap()).unwrap()
}

fn evaluations(job: &JobFolder) -> Vec<(u64, BTreeMap<String, f64>)> {
    let told = events(job).into_iter();
    told.filter_map(|event| match event {
        TrainEvent::Eval { step, metrics, .. } => Some((step, metrics)),
        _ => None,
    })
    .collect()
}

#[test]
fn the_starter_model_learns_to_tell_polite_answers_from_curt_ones() {
    let home = tempfile::tempdir().unwrap();
    let job = polite_job(home.path(), json!({}));
    let (status, stderr) = run_to_end(&job);
    assert!(status.success(), "{stderr}");
    let accuracy = "rewards/accuracies";
    let manifest = manifest(home.path());
    let (before, after) = (manifest.base_metrics[accuracy], manifest.metrics[accuracy]);
    assert!(
        (before - 0.5).abs() < 0.2,
        "the base model is no further from itself on either answer: {before}"
    );
    assert!(after > 0.9, "held-out pairs told apart: {after}");
    assert!(manifest.metrics["rewards/margins"] > 0.5, "{:?}", manifest.metrics);
    assert_eq!(evaluations(&job).last().unwrap().1[accuracy], after);
    let likelier = |name: &str| manifest.metrics[name] - manifest.base_metrics[name];
    assert!(
        likelier("logps/chosen") > 20.0,
        "polite answers became likelier by {} nats",
        likelier("logps/chosen")
    );
    let card = fs::read_to_string(home.path().join("models/model_20260101_000000/README.md")).unwrap();
    assert!(card.contains("| strategy | dpo (loss sigmoid, beta 0.1) |"), "{card}");
    assert!(card.contains(&format!("| {accuracy} | {before:.4} | {after:.4} | 50 |")), "{card}");
}

#[test]
fn a_killed_run_goes_on_with_what_is_known_of_the_base_model() {
    let changes =
        json!({"max_steps": 6, "save_steps": 2, "eval_steps": 6, "loss_type": "kto", "lora_dropout": 0.1});
    let (calm, rough) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let undisturbed = polite_job(calm.path(), changes.clone());
    let (status, stderr) = run_to_end(&undisturbed);
    assert!(status.success(), "{stderr}");

    let killed = polite_job(rough.path(), changes);
    let mut engine = Engine::start(&killed);
    engine.until(|event| matches!(event, TrainEvent::Step(stats) if stats.step == 3));
    engine.child.kill().unwrap();
    engine.finish();
    let (status, stderr) = run_to_end(&killed);
    assert!(status.success(), "{stderr}");
    assert_eq!(losses(&killed), losses(&undisturbed), "to the bit");
    assert_eq!(adapter(rough.path()), adapter(calm.path()), "and so are the final weights");
    let asked = events(&killed).into_iter().filter(|e| *e == TrainEvent::Phase { phase: Phase::Reference });
    assert_eq!(asked.count(), 1, "the base model is asked once");
}
