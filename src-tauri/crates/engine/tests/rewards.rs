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
use types::{
    EventLine, ExportFormat, JobFolder, RunSpec, TrainEvent, TrainingConfig, export::ExportRequest, files,
};

fn resources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources")
}

/// A job on the sample of polite and curt answers.
fn job(home: &Path, changes: Value) -> JobFolder {
    let sample = resources().join("samples/polite");
    let mut request = json!({
        "task": "text-generation", "model_name": "modelforge/starter", "strategy": "rlhf",
        "dataset": sample.join("train.jsonl"), "eval_dataset": sample.join("heldout.jsonl"),
        "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "warmup_ratio": 0.0, "gradient_checkpointing": false,
        "optim": "adamw_torch", "max_grad_norm": 1.0, "eval_answers": 24, "eval_steps": 1000,
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
    let spec = RunSpec {
        version: RunSpec::VERSION,
        expected: None,
        finish_after: None,
        job_id: "train_20260101_000000".into(),
        model_id: "model_20260101_000000".into(),
        base_dir: match config.model_name.as_str() {
            "modelforge/starter" => resources().join("starter"),
            folder => folder.into(),
        },
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
    engine::run([OsString::from("train"), job.path().into()]);
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

/// The first and the last evaluation.
fn ends(events: &[TrainEvent]) -> (&BTreeMap<String, f64>, &BTreeMap<String, f64>) {
    let all = evals(events);
    (all.first().unwrap().1, all.last().unwrap().1)
}

#[test]
fn a_policy_learns_to_write_what_a_pattern_rewards() {
    let home = tempfile::tempdir().unwrap();
    let changes = json!({
        "rl_algorithm": "grpo", "reward": "regex", "reward_pattern": "^The ", "num_generations": 6, "rollout_batch_size": 6,
        "response_length": 24, "temperature": 1.2, "learning_rate": 3e-3, "lr_scheduler_type": "constant", "max_steps": 20, "num_ppo_epochs": 2,
        "kl_coef": 0.02, "kl_limit": 8,
    });
    let events = run(&job(home.path(), changes));
    assert_eq!(failure(&events), None);
    let (base, tuned) = ends(&events);
    assert!(tuned["eval_reward"] > base["eval_reward"] + 0.25, "from {base:?} to {tuned:?}");
    assert!(base["eval_kl"].abs() < 1e-3 && tuned["eval_kl"] > base["eval_kl"], "it has left the base");
    for metrics in steps(&events) {
        let names = [
            "reward",
            "kl",
            "entropy",
            "policy_loss",
            "clip_fraction",
            "response_length",
            "rollout_time_share",
        ];
        assert!(
            names.iter().all(|name| metrics.contains_key(*name)),
            "each step tells of its rollout: {metrics:?}"
        );
        assert!((0.0..=1.0).contains(&metrics["rollout_time_share"]) && metrics["entropy"] > 0.0);
        assert!(!metrics.contains_key("value_loss"), "there are no values without a critic");
    }
    assert!(steps(&events)[0]["kl"].abs() < 1e-3, "a fresh adapter is the base model");
    assert!(events.iter().any(|e| matches!(e, TrainEvent::Sample { step: 20, .. })), "answers are shown");
}

/// Few and short rollouts.
fn small(algorithm: &str) -> Value {
    json!({
        "rl_algorithm": algorithm, "reward": "exact_match", "num_generations": 3, "rollout_batch_size": 3, "response_length": 12,
        "temperature": 1.0, "learning_rate": 1e-3, "max_steps": 4, "num_ppo_epochs": 2, "num_mini_batches": 2, "eval_answers": 2,
        "save_steps": 1, "kl_target": 3.0,
    })
}

#[test]
fn a_paused_run_goes_on_as_if_it_had_not_been() {
    for algorithm in ["ppo", "grpo"] {
        let (calm, rough) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let told = |events: &[TrainEvent]| -> Vec<(u64, u64, BTreeMap<String, f64>)> {
            let step = |event: &TrainEvent| match event {
                TrainEvent::Step(stats) => {
                    let mut metrics = stats.metrics.clone();
                    metrics.remove("rollout_time_share");
                    Some((stats.step, stats.loss.to_bits(), metrics))
                }
                _ => None,
            };
            events.iter().filter_map(step).collect()
        };
        let undisturbed = told(&run(&job(calm.path(), small(algorithm))));
        assert_eq!(undisturbed.len(), 4);
        let paused = job(rough.path(), small(algorithm));
        std::thread::scope(|scope| {
            let engine = scope.spawn(|| run(&paused));
            let begun =
                || fs::read_to_string(paused.events()).is_ok_and(|text| text.contains("\"event\":\"step\""));
            while !begun() && !engine.is_finished() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            types::engine::Control::Pause.give(&paused).unwrap();
            engine.join().unwrap();
        });
        let stopped = events(&paused);
        assert!(
            matches!(stopped.last(), Some(TrainEvent::Stopped { step: 1..4, .. })),
            "{:?}",
            stopped.last()
        );
        assert_eq!(told(&run(&paused)), undisturbed, "{algorithm}: the same rollouts and losses to the bit");
    }
}

#[test]
fn a_policy_that_runs_away_is_stopped_and_its_last_good_checkpoint_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut changes = small("grpo");
    changes["kl_limit"] = json!(0.02);
    changes["learning_rate"] = json!(0.05);
    changes["reward"] = json!("regex");
    changes["reward_pattern"] = json!("e");
    changes["max_steps"] = json!(30);
    let job = job(home.path(), changes);
    let events = run(&job);
    let why = failure(&events).expect("it must not finish");
    assert!(why.contains("nats per token") && why.contains("kl_limit"), "{why}");
    let done = steps(&events).len() as u64;
    let kept = job.checkpoints().unwrap();
    assert!(kept.iter().all(|&step| step < done.max(2)), "{kept:?} of {done} steps");
    if let Some(newest) = kept.last() {
        assert!(why.contains(&format!("The checkpoint after step {newest} is kept")), "{why}");
    }
}

/// The starter, tuned on the sample's questions so that it answers one in four politely, as a model of its own in `home`.
fn sometimes_polite(home: &Path) -> PathBuf {
    let pairs = fs::read_to_string(resources().join("samples/polite/train.jsonl")).unwrap();
    let rows = pairs.lines().enumerate().map(|(index, line)| {
        let pair: Value = serde_json::from_str(line).unwrap();
        let answer = if index % 4 == 0 { &pair["chosen"] } else { &pair["rejected"] };
        json!({"input": pair["prompt"], "output": answer}).to_string()
    });
    let dataset = home.join("mixed.jsonl");
    files::write(&dataset, rows.collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
    let changes = json!({
        "strategy": "sft", "dataset": dataset, "eval_dataset": null, "eval_split": 0.02,
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 1e-3,
    });
    let home = home.join("before");
    assert_eq!(failure(&run(&job(&home, changes))), None);
    let folder = home.join("merged");
    fs::create_dir(&folder).unwrap();
    let request = ExportRequest {
        base_dir: resources().join("starter"),
        adapter_dir: home.join("models/model_20260101_000000"),
        name: "sometimes polite".into(),
        format: ExportFormat::Safetensors,
        dtype: None,
        folder: folder.clone(),
        free_bytes: None,
    };
    engine::run([OsString::from("export"), serde_json::to_string(&request).unwrap().into()]);
    folder
}

#[test]
fn a_policy_becomes_polite_by_what_a_reward_model_likes_and_stays_near_its_base() {
    let home = tempfile::tempdir().unwrap();
    let base = sometimes_polite(home.path());
    let changes = json!({
        "model_name": base,
        "reward_learning_rate": 1e-3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "rollout_batch_size": 32,
        "num_mini_batches": 2, "learning_rate": 3e-4, "max_steps": 10, "response_length": 24, "temperature": 1.0, "cliprange_value": 5.0,
        "kl_coef": 0.02,
    });
    let job = job(home.path(), changes);
    let events = run(&job);
    assert_eq!(failure(&events), None, "it stays within the bound that holds by default");
    let (base, tuned) = ends(&events);
    assert!(base["reward_model/accuracy"] > 0.9, "held-out pairs: {base:?}");
    let rise = tuned["eval_reward"] - base["eval_reward"];
    assert!(rise >= base["eval_reward_std"], "by a standard deviation: {base:?}, then {tuned:?}");
    assert!(steps(&events).iter().all(|metrics| metrics["value_loss"].is_finite()));
    let polite = |at| {
        events.iter().filter(|event| matches!(
        event, TrainEvent::Sample { step, text, .. } if *step == at && text.starts_with("Thank you for asking.")
    )).count()
    };
    assert!(polite(10) > polite(0), "{} polite answers, then {}", polite(0), polite(10));

    let model = home.path().join("models/model_20260101_000000");
    let config = |folder: &Path| -> Value {
        serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
    };
    assert_eq!(config(&model)["task_type"], "CAUSAL_LM");
    assert_eq!(config(&model)["modules_to_save"], Value::Null, "the values stay behind");
    let judge = config(&model.join("reward_model"));
    assert_eq!((&judge["task_type"], &judge["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    assert!(!job.path().join(".reward").exists(), "nothing goes on from its checkpoints");
}
