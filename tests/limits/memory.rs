//! Engines that get too little memory: the run goes on with less at a time, and the app lives.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use types::{EventLine, Fallback, JobFolder, Manifest, TrainEvent, engine::exit, files};

use crate::{
    engine::{BIN, events, job, losses, run_to_end},
    server::{Server, small_run},
    skipped,
};

/// Without gradient checkpointing a micro-batch of eight such rows takes about a gigabyte, one of two a third of that.
fn request(folder: &Path, changes: Value) -> Value {
    request_on(folder, 16, changes)
}

fn request_on(folder: &Path, rows: usize, changes: Value) -> Value {
    let dataset = folder.join("long.jsonl");
    let words =
        "the ferry leaves the old pier at noon and returns before dusk with crates of blue glass ".repeat(14);
    let rows: Vec<String> =
        (0..rows).map(|i| json!({"input": format!("Tell {i}"), "output": words}).to_string()).collect();
    files::write(&dataset, rows.join("\n").as_bytes()).unwrap();
    let mut request = small_run(
        &dataset,
        json!({
            "max_steps": 3, "save_steps": 1, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
            "eval_split": 0.0, "lora_dropout": 0.0, "max_seq_length": 256, "provider": "huggingface",
        }),
    );
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    request
}

/// A program that becomes an engine once it has done what `first` says.
fn wrapper(folder: &Path, first: &str) -> PathBuf {
    let path = folder.join("engine.sh");
    files::write(&path, format!("#!/bin/sh\n{first}\nexec '{BIN}' \"$@\"\n").as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `modelforge train` with engines that begin with `first`.
struct Trained {
    folder: TempDir,
    output: Output,
}

impl Trained {
    fn with(first: &str, changes: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("run.json");
        files::write_json(&config, &request(folder.path(), changes)).unwrap();
        let output = Self::modelforge(folder.path(), first, &["--config", config.to_str().unwrap()]);
        Self { folder, output }
    }

    fn again(self, first: &str) -> Self {
        let id = self.job().path().file_name().unwrap().to_str().unwrap().to_owned();
        let output = Self::modelforge(self.folder.path(), first, &["--resume", &id]);
        Self { output, ..self }
    }

    fn modelforge(folder: &Path, first: &str, arguments: &[&str]) -> Output {
        Command::new(BIN)
            .args(["train", "--json"])
            .args(arguments)
            .env("MODELFORGE_HOME", folder.join("home"))
            .env("MODELFORGE_ENGINE", wrapper(folder, first))
            .output()
            .unwrap()
    }

    fn job(&self) -> JobFolder {
        job_of(&self.folder.path().join("home"))
    }

    fn told(&self) -> Vec<TrainEvent> {
        let text = String::from_utf8(self.output.stdout.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str::<EventLine>(line).unwrap().event).collect()
    }

    fn error(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

fn job_of(home: &Path) -> JobFolder {
    let mut jobs = fs::read_dir(home.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    JobFolder::new(jobs.find(|path| path.is_dir()).unwrap())
}

fn model_of(home: &Path) -> PathBuf {
    fs::read_dir(home.join("models")).unwrap().next().unwrap().unwrap().path()
}

/// Rows at once, batches a step and checkpointing of each fallback.
fn fallbacks(events: &[TrainEvent]) -> Vec<(u32, u32, bool)> {
    let all = events.iter().filter_map(|event| match event {
        TrainEvent::OutOfMemory { fallback } => Some((
            fallback.per_device_train_batch_size,
            fallback.gradient_accumulation_steps,
            fallback.gradient_checkpointing,
        )),
        _ => None,
    });
    all.collect()
}

fn same_losses(job: &JobFolder, undisturbed: &JobFolder) {
    let of = |job: &JobFolder| -> Vec<f64> { losses(job).into_values().map(f64::from_bits).collect() };
    let (got, want) = (of(job), of(undisturbed));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 1e-4 * want.abs(), "the rows of a step stay the same: {got} for {want}");
    }
}

/// The manifest and the card say what was computed.
fn told_by_the_model(home: &Path, last: (u32, u32, bool)) {
    let folder = model_of(home);
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(Manifest::FILE)).unwrap()).unwrap();
    let kept = manifest.fallback.unwrap();
    let kept =
        (kept.per_device_train_batch_size, kept.gradient_accumulation_steps, kept.gradient_checkpointing);
    assert_eq!(kept, last, "the manifest tells the last one");
    assert_eq!(manifest.config.per_device_train_batch_size, 8, "and what was asked for");
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(card.contains(&format!("memory ran out, since then {} × {}", last.0, last.1)), "{card}");
}

#[test]
fn a_refused_allocation_halves_the_batch_and_the_losses_stay() {
    let undisturbed = Trained::with("", json!({}));
    assert!(undisturbed.output.status.success(), "{}", undisturbed.error());
    let limited = Trained::with("ulimit -d 500000", json!({}));
    assert!(
        limited.output.status.success(),
        "only with less at a time the run comes through: {}",
        limited.error()
    );
    let told = fallbacks(&limited.told());
    assert_eq!(told[0], (4, 2, false), "half the rows, twice as often: {told:?}");
    assert_eq!(fallbacks(&events(&limited.job())), told, "the log tells the same");
    same_losses(&limited.job(), &undisturbed.job());
    told_by_the_model(&limited.folder.path().join("home"), *told.last().unwrap());
}

#[test]
fn a_run_that_runs_out_in_the_middle_goes_on_from_its_checkpoint() {
    let undisturbed = Trained::with("", json!({"max_steps": 6}));
    // The first engine gets less as soon as it has a checkpoint; those after it have what they want.
    let first = r#"for last; do :; done
if [ ! -e "$last/limited" ]; then
  touch "$last/limited"; me=$$
  (while [ ! -e "$last/checkpoint-2" ] && [ ! -e "$last/checkpoint-3" ]; do sleep 0.01; done; prlimit --pid $me --data=1000000) >/dev/null 2>&1 &
fi"#;
    let limited = Trained::with(first, json!({"max_steps": 6}));
    assert!(limited.output.status.success(), "{}", limited.error());
    let events = limited.told();
    assert_eq!(fallbacks(&events), [(4, 2, false)], "once was enough");
    let resumed = events.iter().rev().find_map(|event| match event {
        TrainEvent::Started { resumed_from, .. } => Some(*resumed_from),
        _ => None,
    });
    assert!(matches!(resumed, Some(Some(2..))), "nothing before the checkpoint is done again: {resumed:?}");
    same_losses(&limited.job(), &undisturbed.job());
}

#[test]
fn where_nothing_is_left_the_run_pauses_with_advice() {
    let starved = Trained::with("ulimit -d 60000", json!({"per_device_train_batch_size": 2}));
    assert!(!starved.output.status.success());
    let events = starved.told();
    assert_eq!(fallbacks(&events), [(1, 2, false), (1, 2, true)], "rows first, then layers computed twice");
    let Some(TrainEvent::Halted { step: 0, checkpoint: None, reason }) = events.last() else {
        panic!("{events:?}")
    };
    for advice in
        ["Memory ran out", "max_seq_length below 256", "use_4bit", "adamw_8bit", "Close other programs"]
    {
        assert!(reason.contains(advice), "{advice}: {reason}");
    }
    assert!(starved.error().contains("modelforge train --resume"), "{}", starved.error());
    let resumed = starved.again("");
    assert!(resumed.output.status.success(), "with memory it comes to its end: {}", resumed.error());
    let home = resumed.folder.path().join("home");
    let manifest: Manifest =
        serde_json::from_slice(&fs::read(model_of(&home).join(Manifest::FILE)).unwrap()).unwrap();
    assert!(manifest.fallback.unwrap().gradient_checkpointing, "as it had come to");
}

#[test]
fn an_engine_that_is_killed_by_a_person_is_no_want_of_memory() {
    let first = "me=$$; (while ! ls \"$MODELFORGE_HOME\"/runs/*/checkpoint-1 >/dev/null 2>&1; do sleep 0.01; done; kill -9 $me) >/dev/null 2>&1 &";
    let killed = Trained::with(first, json!({"max_steps": 50, "per_device_train_batch_size": 1}));
    assert!(!killed.output.status.success());
    assert_eq!(fallbacks(&killed.told()), [], "it computes as it was asked to when it is resumed");
}

/// An engine whose card is gone after the first checkpoint, each time but where `once` it was so already.
fn loses_its_card(once: bool) -> String {
    let skip = if once { "[ -e \"$MODELFORGE_HOME/lost\" ] ||" } else { "" };
    let code = exit::CARD_LOST;
    format!(
        "{skip} {{ : > \"$MODELFORGE_HOME/lost\"; '{BIN}' \"$@\" & engine=$!
        while ! ls \"$MODELFORGE_HOME\"/runs/*/checkpoint-1 >/dev/null 2>&1; do sleep 0.01; done
        kill -9 $engine; wait $engine 2>/dev/null; echo CUDA_ERROR_LAUNCH_FAILED >&2; exit {code}; }}"
    )
}

#[test]
fn a_run_whose_card_is_gone_goes_on_on_the_processor() {
    let changes = json!({"max_steps": 20, "per_device_train_batch_size": 1});
    let run = Trained::with(&loses_its_card(true), changes.clone());
    assert!(run.output.status.success(), "{}", run.error());
    let told = run.told();
    let warned = told.iter().any(|event| {
        matches!(event, TrainEvent::Warning { message }
            if message.contains("does not answer") && message.contains("CUDA_ERROR_LAUNCH_FAILED"))
    });
    assert!(warned, "the reason is told: {told:?}");
    assert!(Fallback::read(&run.job()).unwrap().unwrap().on_processor);
    let manifest = model_of(&run.folder.path().join("home")).join(Manifest::FILE);
    let manifest: Manifest = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    assert!(manifest.fallback.unwrap().on_processor, "the model remembers");
    same_losses(&run.job(), &Trained::with("", changes).job());
}

#[test]
fn a_card_that_is_lost_again_ends_the_run_until_somebody_takes_it_up() {
    let lost =
        Trained::with(&loses_its_card(false), json!({"max_steps": 20, "per_device_train_batch_size": 1}));
    assert!(!lost.output.status.success(), "it is not begun over and over");
    assert!(lost.error().contains("CUDA_ERROR_LAUNCH_FAILED"), "{}", lost.error());
    let taken_up = lost.again("");
    assert!(taken_up.output.status.success(), "{}", taken_up.error());
    assert!(!Fallback::read(&taken_up.job()).unwrap().unwrap().on_processor, "the card is tried again");
}

#[test]
fn parts_of_any_batch_hold_the_rows_of_the_whole() {
    for changes in [
        json!({"packing": true, "max_seq_length": 64}),
        json!({"strategy": "dpo"}),
        json!({"per_device_train_batch_size": 3}),
    ] {
        let mut all =
            json!({"lora_dropout": 0.0, "per_device_eval_batch_size": 2, "gradient_checkpointing": true});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (undisturbed, limited) = (job(whole.path(), all.clone()), job(parts.path(), all));
        if changes["strategy"] == "dpo" {
            for home in [whole.path(), parts.path()] {
                let row = |i| json!({"prompt": format!("What is box {i}?"), "chosen": "It is blue.", "rejected": "No."});
                let rows: Vec<String> = (0..12).map(|i| row(i).to_string()).collect();
                files::write(&home.join("rows.jsonl"), rows.join("\n").as_bytes()).unwrap();
            }
        }
        let (status, said) = run_to_end(&undisturbed);
        assert!(status.success(), "{changes}: {said}");
        let spec: types::RunSpec = serde_json::from_slice(&fs::read(limited.run_json()).unwrap()).unwrap();
        let fallback = Fallback::none(&spec.config).next(&spec.config, false).unwrap();
        fallback.write(&limited).unwrap();
        let (status, said) = run_to_end(&limited);
        assert!(status.success(), "{changes}: {said}");
        same_losses(&limited, &undisturbed);
        let tokens = |job: &JobFolder| -> Vec<u64> {
            let steps = events(job).into_iter().filter_map(|event| match event {
                TrainEvent::Step(stats) => Some(stats.tokens),
                _ => None,
            });
            steps.collect()
        };
        assert_eq!(tokens(&limited), tokens(&undisturbed), "{changes}");
    }
}

/// A group of processes that get so much memory together; `None` where this machine lets nobody make one.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("modelforge-test-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let places = own.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            match controllers {
                "memory" => Some((format!("/sys/fs/cgroup/memory{path}/{name}"), "memory.limit_in_bytes")),
                "" => Some((format!("/sys/fs/cgroup{path}/{name}"), "memory.max")),
                _ => None,
            }
        });
        places.into_iter().find_map(|(folder, limit)| {
            let folder = PathBuf::from(folder);
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[tokio::test]
async fn the_system_ends_the_engine_and_never_the_app() {
    let Some(group) = Group::new(480 << 20) else {
        return skipped("this machine lets nobody limit the memory of a group, so its killer was not tested");
    };
    let server = Server::start();
    // The whole app lives within the limit; engines that it starts are born into it.
    fs::write(group.0.join("cgroup.procs"), server.child.id().to_string()).unwrap();
    let asked = request(server.home.parent().unwrap(), json!({}));
    let (status, started) = server.post("/api/finetune/start_training", asked).await;
    assert_eq!(status, 200, "{started}");
    let done = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(done["status"], "completed", "{done}");
    let events = events(&job_of(&server.home));
    let told = fallbacks(&events);
    assert_eq!(told.first(), Some(&(4, 2, false)), "{told:?}");
    told_by_the_model(&server.home, *told.last().unwrap());
    let undisturbed = Trained::with("", json!({}));
    same_losses(&job_of(&server.home), &undisturbed.job());
    let (status, health) = server.get("/api/health").await;
    assert_eq!(status, 200, "the app has seen it all: {health}");
    drop(server);
    drop(group);
}

#[tokio::test]
async fn what_cannot_fit_is_refused_with_what_would() {
    let server = Server::start();
    let folder = server.home.parent().unwrap();
    // Activations of a million tokens at once.
    let asked = request_on(folder, 4000, json!({"per_device_train_batch_size": 4000}));
    let (status, estimate) = server.post("/api/finetune/estimate", asked.clone()).await;
    assert_eq!((status, &estimate["fit"]), (200, &json!("too_large")), "{estimate}");
    let changes = estimate["nearest"]["changes"].as_object().unwrap().clone();
    assert!(estimate["disk"]["total"].as_u64() > Some(0) && estimate["free_disk_bytes"].as_u64() > Some(0));

    let (status, refused) = server.post("/api/finetune/start_training", asked.clone()).await;
    assert_eq!(status, 400, "{refused}");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("of memory, and") && detail.contains("It fits with"), "{detail}");
    for name in changes.keys() {
        assert!(detail.contains(name), "{name}: {detail}");
    }
    assert!(
        !server.home.join("runs").read_dir().unwrap().any(|e| e.unwrap().path().is_dir()),
        "nothing was made"
    );

    // A batch that is larger than the dataset is no larger than that.
    let all = request_on(folder, 16, json!({"per_device_train_batch_size": 4000}));
    let (_, of_few) = server.post("/api/finetune/estimate", all).await;
    assert_ne!(of_few["fit"], "too_large", "{of_few}");

    let asked = request_on(folder, 4000, asked);
    let mut smaller = asked;
    smaller.as_object_mut().unwrap().extend(changes);
    smaller["max_steps"] = json!(1);
    let (status, estimate) = server.post("/api/finetune/estimate", smaller).await;
    assert_eq!(status, 200, "{estimate}");
    assert_ne!(estimate["fit"], "too_large", "what is offered fits: {estimate}");
    assert!(estimate["nearest"].is_null());
}
