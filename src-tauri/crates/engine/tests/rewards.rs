//! Runs that learn from rewards, on the starter model: what is rewarded is written more often, and nothing else is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use types::{EventLine, JobFolder, RunSpec, TrainEvent, TrainingConfig, files};

fn resources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources")
}

/// A job on the sample of polite and curt answers.
fn job(home: &Path, changes: Value) -> JobFolder {
    let sample = resources().join("samples/polite");
    let mut request = json!({
        "task": "text-generation", "model_name": "modelforge/starter", "strategy": "rlhf",
        "dataset": sample.join("train.jsonl"), "eval_dataset": sample.join("heldout.jsonl"),
        "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "warmup_ratio": 0.0, "gradient_checkpointing": false,
        "optim": "adamw_torch", "max_grad_norm": 1.0, "eval_answers": 24, "eval_steps": 1000, "response_length": 24,
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
    let spec = RunSpec {
        version: RunSpec::VERSION,
        job_id: "train_20260101_000000".into(),
        model_id: "model_20260101_000000".into(),
        base_dir: resources().join("starter"),
        dataset_path: config.dataset.clone().into(),
        eval_dataset_path: config.eval_dataset.clone().map(PathBuf::from),
        model_dir: home.join("models/model_20260101_000000"),
        created_at: String::new(),
        config,
    };
    let folder = home.join("job");
    fs::create_dir_all(&folder).unwrap();
    let job = JobFolder::new(folder);
    files::write_json(&job.run_json(), &spec).unwrap();
    job
}

fn events(job: &JobFolder) -> Vec<TrainEvent> {
    let text = fs::read_to_string(job.events()).unwrap();
    text.lines().map(|line| serde_json::from_str::<EventLine>(line).unwrap().event).collect()
}

/// Runs the job; its events.
fn run(job: &JobFolder) -> Vec<TrainEvent> {
    engine::main([OsString::from("train"), job.path().into()]);
    events(job)
}

/// The metrics of each step.
fn steps(events: &[TrainEvent]) -> Vec<&BTreeMap<String, f64>> {
    events
        .iter()
        .filter_map(|e| if let TrainEvent::Step(stats) = e { Some(&stats.metrics) } else { None })
        .collect()
}

/// The metrics of each evaluation.
fn evals(events: &[TrainEvent]) -> Vec<(u64, &BTreeMap<String, f64>)> {
    let eval = |event| match event {
        &TrainEvent::Eval { step, ref metrics, .. } => Some((step, metrics)),
        _ => None,
    };
    events.iter().filter_map(eval).collect()
}

fn failure(events: &[TrainEvent]) -> Option<String> {
    match events.last() {
        Some(TrainEvent::Finished { result, .. }) => result.error.clone(),
        other => panic!("a run ends with how it ended, not {other:?}"),
    }
}

fn tell(events: &[TrainEvent]) {
    for event in events {
        match event {
            TrainEvent::Step(stats) => eprintln!(
                "{} loss {:.4} grad {:.3} {:.0}ms {:.3?}",
                stats.step, stats.loss, stats.grad_norm, stats.step_ms, stats.metrics
            ),
            TrainEvent::Eval { step, metrics, .. } => eprintln!("EVAL {step} {metrics:.3?}"),
            TrainEvent::Sample { step, prompt, text, .. } => {
                eprintln!("SAMPLE {step} {prompt:?} -> {text:?}")
            }
            other => eprintln!("{other:?}"),
        }
    }
}

#[test]
fn a_policy_learns_to_write_what_a_pattern_rewards() {
    let home = tempfile::tempdir().unwrap();
    let more: Value = serde_json::from_str(&std::env::var("RL_MORE").unwrap_or("{}".into())).unwrap();
    let mut changes = json!({
        "rl_algorithm": "grpo", "reward": "regex", "reward_pattern": "^The ", "num_generations": 6, "rollout_batch_size": 6,
        "temperature": 1.0, "learning_rate": 2e-3, "lr_scheduler_type": "constant", "max_steps": 12, "num_ppo_epochs": 2, "kl_coef": 0.02,
    });
    changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let job = job(home.path(), changes);
    let events = run(&job);
    tell(&events);
    assert_eq!(failure(&events), None);
}
