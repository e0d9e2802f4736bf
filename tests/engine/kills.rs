//! Engines that are killed, at any moment and at every point where a file is being written: the run that is resumed each time
//! ends with what an undisturbed one has, to the bit, and leaves nothing else behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use types::{JobFolder, Manifest, TrainEvent, files};

use crate::{
    spans::{base, span_job},
    support::{BIN, edit, events, job},
};

/// What can be seen in the folders of a run while something is written, with numbers as `N` and random names as `*`.
const WRITE_POINTS: [&str; 20] = [
    "job/events.jsonl",
    "job/tokens",
    "job/tokens/train.tokens",
    "job/.writing-*",
    "job/inputs.json",
    "job/.checkpoint-N.writing",
    "job/.checkpoint-N.writing/.writing-*",
    "job/.checkpoint-N.writing/adapter_model.safetensors",
    "job/.checkpoint-N.writing/optimizer.safetensors",
    "job/.checkpoint-N.writing/checkpoint.json",
    "job/checkpoint-N",
    "job/.checkpoint-N.removing",
    "models/.model_N.writing",
    "models/.model_N.writing/.writing-*",
    "models/.model_N.writing/adapter_model.safetensors",
    "models/.model_N.writing/tokenizer.json",
    "models/.model_N.writing/README.md",
    "models/.model_N.writing/modelforge.json",
    "models/model_N",
    "models/model_N/modelforge.json",
];

/// When an engine is killed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// So long after its start.
    After(Duration),
    /// As soon as this is seen that was not there when it started.
    Seen(&'static str),
}

/// Numbers that look random and are the same in every test run: a linear congruence, its upper bits.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a run came to.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Of the model's weights.
    adapter: String,
    metrics: BTreeMap<String, f64>,
    losses: BTreeMap<u64, u64>,
    evaluations: BTreeMap<u64, BTreeMap<String, u64>>,
    /// Everything in the folders of the run and the model, and the hashes of checkpoints.
    left: BTreeMap<String, Option<String>>,
}

/// Starts an engine whose output nobody reads.
pub fn start(job: &JobFolder) -> Child {
    let mut command = Command::new(BIN);
    command.args(["engine", "train"]).arg(job.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Everything in the folders of a run and its model, under its own name.
fn seen(home: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for top in ["job", "models"] {
        list(&home.join(top), top, &mut found);
    }
    found
}

fn list(folder: &Path, name: &str, found: &mut BTreeSet<String>) {
    // What vanishes meanwhile is not there any more.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &name, found);
        }
        found.insert(name);
    }
}

/// `job/.checkpoint-N.writing` of `job/.checkpoint-12.writing`.
fn point(name: &str) -> String {
    let part = |part: &str| match part {
        part if part.starts_with(files::TEMPORARY) => format!("{}*", files::TEMPORARY),
        part if part.contains("checkpoint-") || part.contains("model_2") => {
            let mut text = String::new();
            for c in part.chars() {
                match c {
                    '0'..='9' | '_' if text.ends_with('N') => {}
                    '0'..='9' => text.push('N'),
                    c => text.push(c),
                }
            }
            text
        }
        part => part.to_owned(),
    };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Whether the run has come to its end: an engine can be killed after its last word.
fn finished(job: &JobFolder) -> bool {
    fs::read_to_string(job.events()).is_ok_and(|log| {
        log.ends_with('\n') && log.lines().last().is_some_and(|line| line.contains(r#""event":"finished""#))
    })
}

/// Lets an engine live until it is to be killed. False where it came to its end before, which must be a good one.
fn life(home: &Path, job: &JobFolder, when: &When) -> bool {
    let before = seen(home);
    let mut engine = start(job);
    let started = Instant::now();
    loop {
        let now = match when {
            When::After(time) => started.elapsed() >= *time,
            When::Seen(wanted) => {
                seen(home).iter().any(|name| point(name) == *wanted && !before.contains(name))
            }
        };
        if now {
            engine.kill().unwrap();
            return engine.wait().unwrap().code().is_none();
        }
        if let Some(status) = engine.try_wait().unwrap() {
            assert!(status.success(), "{when:?}: {}", fs::read_to_string(job.events()).unwrap_or_default());
            return false;
        }
        if let When::After(_) = when {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Checks the event log of a finished run and gives what it came to.
pub fn outcome(home: &Path, job: &JobFolder) -> Outcome {
    let (mut losses, mut evaluations, mut saved) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut finished = 0;
    let log = events(job);
    for (place, event) in log.iter().enumerate() {
        match event {
            TrainEvent::Step(stats) => {
                let loss = stats.loss.to_bits();
                assert_eq!(*losses.entry(stats.step).or_insert(loss), loss, "a step done again is the same");
                assert!(stats.step == 1 || losses.contains_key(&(stats.step - 1)), "no step is missing");
            }
            TrainEvent::Eval { step, metrics, .. } => {
                let values: BTreeMap<_, _> = metrics.iter().map(|(k, v)| (k.clone(), v.to_bits())).collect();
                assert_eq!(*evaluations.entry(*step).or_insert_with(|| values.clone()), values);
            }
            TrainEvent::Checkpoint { step, .. } => {
                assert!(losses.contains_key(step), "the steps of a checkpoint are told before it");
                saved.insert(*step);
            }
            TrainEvent::Started { resumed_from: Some(step), .. } => {
                let told = matches!(&log[place + 1], TrainEvent::Checkpoint { step: now, .. } if now == step);
                assert!(saved.contains(step) || told, "the checkpoint of step {step} is told");
            }
            TrainEvent::Finished { result, .. } => {
                assert!(result.success, "{result:?}");
                finished += 1;
            }
            _ => {}
        }
    }
    assert_eq!(finished, 1, "a run finishes once");
    assert!(matches!(log.last(), Some(TrainEvent::Finished { .. })));

    let folder = home.join("models/model_20260101_000000");
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(Manifest::FILE)).unwrap()).unwrap();
    let left = seen(home).into_iter().map(|name| {
        // Other files tell times, or where the dataset is.
        let weights = name.ends_with(".safetensors") && !name.ends_with("reference.safetensors");
        let hash = weights.then(|| files::sha256(&home.join(&name)).unwrap());
        (name, hash)
    });
    Outcome {
        adapter: files::sha256(&folder.join("adapter_model.safetensors")).unwrap(),
        metrics: manifest.metrics,
        losses,
        evaluations,
        left: left.collect(),
    }
}

/// Kills engines until as many were killed as asked for, on as many runs as that takes, each of which must end as an
/// undisturbed one does. Gives what was hit.
pub fn kill(make: impl Fn(&Path) -> JobFolder, kills: usize, mut plan: impl FnMut() -> When) -> Vec<When> {
    let calm = tempfile::tempdir().unwrap();
    let undisturbed = make(calm.path());
    assert!(start(&undisturbed).wait().unwrap().success());
    let want = outcome(calm.path(), &undisturbed);
    let mut hit = Vec::new();
    while hit.len() < kills {
        let rough = tempfile::tempdir().unwrap();
        let job = make(rough.path());
        loop {
            if finished(&job) {
                break;
            }
            if hit.len() == kills {
                assert!(start(&job).wait().unwrap().success());
                break;
            }
            let when = plan();
            if !life(rough.path(), &job, &when) {
                break;
            }
            hit.push(when);
        }
        assert_eq!(outcome(rough.path(), &job), want, "killed at {hit:?}");
    }
    hit
}

/// A run that writes all the time: a checkpoint after every step, of which the best stays, and many evaluations.
fn writing(home: &Path) -> JobFolder {
    let changes = json!({"max_steps": 12, "save_steps": 1, "eval_steps": 3, "load_best_model_at_end": true, "lora_r": 16,
        "lora_dropout": 0.1, "max_seq_length": 64});
    job(home, changes)
}

/// Every second kill is at a point where something is being written, every other one at a random moment.
fn torture(kills: usize, seed: u64, points: &[&'static str]) -> Vec<When> {
    let (mut dice, mut count, mut next) = (Dice(seed), 0, 0);
    let hit = kill(writing, kills, || {
        count += 1;
        if count % 2 == 0 {
            return When::After(Duration::from_micros(dice.below(1_500_000)));
        }
        next += 1;
        When::Seen(points[(next - 1) % points.len()])
    });
    assert_eq!(hit.len(), kills);
    hit
}

#[test]
fn a_run_that_is_killed_again_and_again_equals_the_undisturbed_one() {
    let points =
        ["job/.checkpoint-N.writing/optimizer.safetensors", "job/.checkpoint-N.removing", "models/model_N"];
    torture(8, 1, &points);
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills_at_every_point_of_writing_change_nothing() {
    let hit: BTreeSet<When> = torture(200, 2, &WRITE_POINTS).into_iter().collect();
    let missed: Vec<_> = WRITE_POINTS.into_iter().filter(|point| !hit.contains(&When::Seen(point))).collect();
    println!("200 kills, {} points of writing among them", WRITE_POINTS.len() - missed.len());
    assert!(missed.is_empty(), "never killed at {missed:?}");
}

/// A short run of each way of training, killed once its first checkpoint is there and once at another moment.
fn killed_twice(make: impl Fn(&Path) -> JobFolder, seen: &'static str) {
    let mut dice = Dice(7);
    let mut first = true;
    kill(make, 2, || match std::mem::take(&mut first) {
        true => When::Seen(seen),
        false => When::After(Duration::from_millis(200 + dice.below(800))),
    });
}

fn polite(home: &Path, changes: Value) -> JobFolder {
    let mut settings = json!({
        "lora_dropout": 0.1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "max_steps": 4,
        "per_device_eval_batch_size": 8, "eval_steps": 4, "save_steps": 1, "eval_answers": 2,
    });
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let job = job(home, settings);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/samples/polite/train.jsonl");
    let rows: Vec<String> = fs::read_to_string(sample).unwrap().lines().take(24).map(String::from).collect();
    files::write(&home.join("rows.jsonl"), rows.join("\n").as_bytes()).unwrap();
    job
}

#[test]
fn every_strategy_goes_on_to_the_bit_after_a_kill() {
    let rlhf = |changes: Value| {
        let mut all =
            json!({"strategy": "rlhf", "rollout_batch_size": 4, "response_length": 8, "max_steps": 3});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        move |home: &Path| polite(home, all.clone())
    };
    killed_twice(|home| job(home, json!({"strategy": "qlora", "save_steps": 1})), "job/checkpoint-N");
    killed_twice(|home| polite(home, json!({"strategy": "dpo"})), "job/checkpoint-N");
    killed_twice(rlhf(json!({"rl_algorithm": "ppo"})), "job/.reward/checkpoint-N");
    killed_twice(rlhf(json!({"rl_algorithm": "ppo"})), "job/reward_model");
    killed_twice(
        rlhf(json!({"rl_algorithm": "grpo", "reward": "exact_match", "num_generations": 2})),
        "job/checkpoint-N",
    );
    killed_twice(
        |home| job(home, json!({"task": "summarization", "save_steps": 1, "eval_answers": 2})),
        "job/checkpoint-N",
    );
    killed_twice(
        |home| {
            let job = job(home, json!({"task": "summarization", "max_steps": 40, "save_steps": 1}));
            edit(&job, "base_dir", json!(base("flan-t5-gated-bf16")));
            job
        },
        "job/checkpoint-N",
    );
    killed_twice(
        |home| span_job(home, "bert-span", json!({"max_steps": 40, "save_steps": 1, "eval_steps": 20})),
        "job/checkpoint-N",
    );
}
