//! The whole way on the command line with real engines: train, stop, resume, kill, race, chat, delete.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::{Value, json};
use types::{EventLine, JobFolder, TrainEvent, files};

const BIN: &str = env!("CARGO_BIN_EXE_modelforge");

/// A data folder with a small dataset.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let rows: String = (0..12)
            .map(|i| {
                format!(
                    "{}\n",
                    json!({"input": format!("What is box {i}?"), "output": format!("Box {i} is blue.")})
                )
            })
            .collect();
        files::write(&temp.path().join("rows.jsonl"), rows.as_bytes()).unwrap();
        Self(temp)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BIN);
        command.args(args).current_dir(self.0.path()).env("MODELFORGE_HOME", self.0.path().join("home"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", stderr(&output)))
    }

    /// A run of `steps` steps with a checkpoint after every second one.
    fn train(&self, steps: u32) -> Train {
        let mut child = self.command(&train_args(&steps.to_string())).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Train { child, lines, job_id: None }
    }

    fn job(&self, job_id: &str) -> JobFolder {
        JobFolder::new(self.0.path().join("home/runs").join(job_id))
    }
}

fn train_args(steps: &str) -> [&str; 26] {
    [
        "train",
        "--json",
        "--task",
        "text-generation",
        "--model-name",
        "modelforge/starter",
        "--dataset",
        "rows.jsonl",
        "--max-steps",
        steps,
        "--per-device-train-batch-size",
        "2",
        "--gradient-accumulation-steps",
        "1",
        "--lora-r",
        "4",
        "--save-steps",
        "2",
        "--gradient-checkpointing=false",
        "--eval-split",
        "0.25",
        "--eval-steps",
        "1000",
        "--name",
        "boxes",
        "--packing=false",
    ]
}

/// `modelforge train --json` at work.
struct Train {
    child: Child,
    lines: BufReader<ChildStdout>,
    job_id: Option<String>,
}

impl Train {
    fn next(&mut self) -> Option<TrainEvent> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let line: EventLine = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("--json prints events and nothing else: {e}: {line:?}"));
        if let TrainEvent::Started { job_id, .. } = &line.event {
            self.job_id = Some(job_id.clone());
        }
        Some(line.event)
    }

    /// Reads on until an event is the one looked for.
    fn until(&mut self, found: impl Fn(&TrainEvent) -> bool) -> TrainEvent {
        loop {
            match self.next() {
                Some(event) if found(&event) => return event,
                Some(_) => {}
                None => panic!("the run ended before the event came"),
            }
        }
    }

    fn until_step(&mut self, step: u64) {
        self.until(|event| matches!(event, TrainEvent::Step(stats) if stats.step == step));
    }

    /// Reads to the end: the exit code, the last event, what was said on standard error.
    fn finish(mut self) -> (Option<i32>, Option<TrainEvent>, String) {
        let mut last = None;
        while let Some(event) = self.next() {
            last = Some(event);
        }
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), last, stderr(&output))
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_model_is_trained_talked_to_and_deleted() {
    let home = Home::new();
    let (code, last, told) = home.train(3).finish();
    assert_eq!(code, Some(0), "{told}");
    let Some(TrainEvent::Finished { result, metrics }) = last else {
        panic!("the last event is the end: {last:?}")
    };
    assert!(result.success && metrics.contains_key("eval_loss"), "{metrics:?}");
    let id = result.model_id.unwrap();

    let list = home.json(&["models", "list", "--json"]);
    assert_eq!(list[0]["model_id"], json!(id), "a finished model is listed");
    assert_eq!((&list[0]["name"], &list[0]["base_model"]), (&json!("boxes"), &json!("modelforge/starter")));
    let details = home.json(&["models", "show", &id, "--json"]);
    let keys: Vec<&String> = details.as_object().unwrap().keys().collect();
    let want = [
        "model_id",
        "name",
        "base_model",
        "task",
        "strategy",
        "provider",
        "created_at",
        "size_mb",
        "path",
        "config",
        "metrics",
    ];
    assert_eq!(keys, want, "the documented eleven keys");
    assert_eq!(details["config"]["lora_r"], json!(4));
    assert!(details["metrics"]["final_loss"].as_f64().unwrap() > 0.0, "{}", details["metrics"]);
    let run = &home.json(&["runs", "list", "--json"])[0];
    assert_eq!(
        (&run["status"], &run["step"], &run["model_id"]),
        (&json!("completed"), &json!(3), &json!(id))
    );

    for model in [id.as_str(), "boxes", "modelforge/starter"] {
        let args = [
            "generate",
            "--model",
            model,
            "--prompt",
            "What is box 3?",
            "--temperature",
            "0",
            "--max-new-tokens",
            "8",
        ];
        let (first, second) = (home.run(&args), home.run(&args));
        assert!(first.status.success() && stderr(&first).contains("tokens/s"), "{model}: {}", stderr(&first));
        assert!(!stdout(&first).trim().is_empty(), "{model} answers");
        assert_eq!(stdout(&first), stdout(&second), "greedy answers are the same each time");
    }
    let raw = home.run(&["generate", "--prompt", "Once", "--raw", "--max-new-tokens", "4", "--seed", "7"]);
    assert!(raw.status.success() && !stdout(&raw).trim().is_empty(), "{}", stderr(&raw));

    let mut chat = home.command(&["chat", &id, "--temperature", "0", "--max-new-tokens", "8"]);
    let mut chat = chat.stdin(Stdio::piped()).spawn().unwrap();
    chat.stdin
        .take()
        .unwrap()
        .write_all(b"What is box 1?\n\n/reset\nWhat is box 1?\n/exit\nnever read\n")
        .unwrap();
    let output = chat.wait_with_output().unwrap();
    let text = stdout(&output);
    let answers: Vec<&str> = text.lines().collect();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(answers.len(), 2, "two questions, two answers: {text:?}");
    assert_eq!(answers[0], answers[1], "after /reset the conversation starts anew");

    let refused = home.run(&["models", "delete", &id]);
    assert_eq!(refused.status.code(), Some(1), "without anyone to ask, nothing is deleted");
    let folder = PathBuf::from(list[0]["path"].as_str().unwrap());
    assert!(folder.is_dir());
    assert!(home.run(&["models", "delete", &id, "--yes"]).status.success());
    assert!(!folder.exists(), "the files are gone");
    assert_eq!(home.json(&["models", "list", "--json"]), json!([]));
}

#[test]
fn a_second_run_is_refused_while_one_is_active() {
    let home = Home::new();
    let mut first = home.train(10_000);
    first.until_step(1);
    let job_id = first.job_id.clone().unwrap();
    let busy = format!("Training already in progress: {job_id}");
    for args in [&train_args("1")[..], &["train", "--resume", &job_id]] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&busy), "{}", stderr(&output));
    }
    assert_eq!(home.json(&["runs", "show", &job_id, "--json"])["status"], json!("running"));
    kill_engine(&home, &job_id);
    first.finish();
}

#[test]
fn a_run_waits_for_its_turn_and_is_begun_by_who_works_the_queue_off() {
    let home = Home::new();
    let mut first = home.train(10_000);
    first.until_step(1);
    let active = first.job_id.clone().unwrap();
    let steps = train_args("2");
    let wait: Vec<&str> = steps.iter().copied().filter(|arg| *arg != "--json").chain(["--queue"]).collect();
    for place in ["place 1", "place 2"] {
        let output = home.run(&wait);
        assert!(output.status.success() && stderr(&output).contains(place), "{}", stderr(&output));
    }
    let queue = home.json(&["queue", "list", "--json"]);
    let [a, b] = [0, 1].map(|n| queue["runs"][n].as_str().unwrap().to_owned());
    assert!(home.run(&["queue", "move", &b, "1"]).status.success());
    assert!(home.run(&["queue", "remove", &a]).status.success());
    let text = stdout(&home.run(&["queue"]));
    assert!(text.contains(&b) && text.lines().count() == 2, "the heading and one run: {text}");

    let worker = home.command(&["queue", "work"]).spawn().unwrap();
    assert!(home.run(&["runs", "finish", &active]).status.success());
    assert_eq!(first.finish().0, Some(0));
    let ended = worker.wait_with_output().unwrap();
    assert!(ended.status.success(), "it ends when none is left: {}", stderr(&ended));
    assert_eq!(home.json(&["runs", "show", &b, "--json"])["status"], json!("completed"));
    assert_eq!(home.json(&["queue", "list", "--json"]), json!({"held": false, "runs": []}));
}

#[test]
fn of_runs_started_at_once_one_wins() {
    let home = Home::new();
    let runs: Vec<Train> = (0..3).map(|_| home.train(4)).collect();
    let ends: Vec<(Option<i32>, String)> = runs
        .into_iter()
        .map(|run| {
            let (code, _, told) = run.finish();
            (code, told)
        })
        .collect();
    let won = ends.iter().filter(|(code, _)| *code == Some(0)).count();
    assert!(won >= 1, "one run goes through: {ends:?}");
    for (code, told) in ends.iter().filter(|(code, _)| *code != Some(0)) {
        assert!(*code == Some(1) && told.contains("Training already in progress: train_"), "{told}");
    }
    let listed = home.json(&["runs", "list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), won, "a refused run leaves nothing behind");
}

#[test]
fn a_killed_engine_is_told_and_its_run_can_be_resumed() {
    let home = Home::new();
    let mut run = home.train(24);
    run.until(|event| matches!(event, TrainEvent::Checkpoint { .. }));
    let job_id = run.job_id.clone().unwrap();
    kill_engine(&home, &job_id);
    let (code, _, told) = run.finish();
    assert_eq!(code, Some(1));
    assert!(told.contains("the training engine was ended"), "the reason is told: {told}");
    assert_eq!(home.json(&["runs", "show", &job_id, "--json"])["status"], json!("interrupted"));
    assert_eq!(home.json(&["models", "list", "--json"]), json!([]), "a killed run makes no model");

    let resumed = home.run(&["runs", "resume", &job_id]);
    let text = stdout(&resumed);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(text.contains("boxes is ready") && text.contains("modelforge chat model_"), "{text}");
    assert!(
        stderr(&resumed).contains("step 24/24"),
        "without a terminal, steps are lines: {}",
        stderr(&resumed)
    );
    let again = home.run(&["train", "--resume", &job_id]);
    assert!(!again.status.success() && stderr(&again).contains("finished"), "{}", stderr(&again));
}

#[test]
fn a_run_takes_orders_from_any_process() {
    let home = Home::new();
    let mut run = home.train(10_000);
    run.until_step(1);
    let job_id = run.job_id.clone().unwrap();
    let told = home.run(&["runs", "pause", &job_id]);
    assert!(told.status.success() && stderr(&told).contains("train --resume"), "{}", stderr(&told));
    let (code, last, _) = run.finish();
    assert!(matches!(last, Some(TrainEvent::Stopped { checkpoint: Some(_), .. })), "{last:?}");
    assert_eq!(code, Some(130), "a paused run made no model");
    assert_eq!(home.json(&["runs", "show", &job_id, "--json"])["status"], json!("stopped"));

    let resume = ["train", "--resume", &job_id, "--json"];
    let mut child = home.command(&resume).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut run = Train { child, lines, job_id: None };
    run.until(|event| matches!(event, TrainEvent::Step(_)));
    assert!(home.run(&["runs", "finish", &job_id]).status.success());
    let (code, last, told) = run.finish();
    assert_eq!(code, Some(0), "{told}");
    let Some(TrainEvent::Finished { result, .. }) = last else { panic!("the run is over: {last:?}") };
    assert!(result.success && result.message.contains("finished early"), "{result:?}");
    assert_eq!(home.json(&["runs", "show", &job_id, "--json"])["status"], json!("completed"));
    assert_eq!(home.json(&["models", "list", "--json"])[0]["model_id"], json!(result.model_id));

    for (args, why) in [
        (["runs", "pause", &job_id], "is not running"),
        (["runs", "finish", "train_20000101_000000"], "train_20000101_000000"),
    ] {
        let output = home.run(&args);
        assert_eq!(output.status.code(), Some(1), "there is nobody to take the order");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}

/// Ends the engine of a run as running out of memory would: at once, from outside.
fn kill_engine(home: &Home, job_id: &str) {
    let log = fs::read_to_string(home.job(job_id).events()).unwrap();
    let pid = log.lines().find_map(|line| match serde_json::from_str::<EventLine>(line).unwrap().event {
        TrainEvent::Started { pid, .. } => Some(pid),
        _ => None,
    });
    signal("KILL", pid.unwrap());
}

#[cfg(unix)]
fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[cfg(windows)]
fn signal(_: &str, pid: u32) {
    let status = Command::new("taskkill").args(["/F", "/PID", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_a_checkpoint_and_resume_finishes() {
    let home = Home::new();
    let mut run = home.train(40);
    run.until_step(1);
    let job_id = run.job_id.clone().unwrap();
    signal("INT", run.child.id());
    let (code, last, told) = run.finish();
    assert_eq!(code, Some(130), "Ctrl-C has the exit code that shells expect: {told}");
    let Some(TrainEvent::Stopped { step, checkpoint }) = last else {
        panic!("the run stops cleanly: {last:?}")
    };
    assert!(
        step < 40 && checkpoint.is_some_and(|path| is_whole(&path)),
        "a checkpoint of step {step} is kept"
    );
    assert!(told.contains(&format!("modelforge train --resume {job_id}")), "how to go on is told: {told}");
    assert_eq!(home.json(&["runs", "show", &job_id, "--json"])["status"], json!("stopped"));

    let output = home.run(&["train", "--resume", &job_id, "--json"]);
    let text = stdout(&output);
    let events: Vec<TrainEvent> =
        text.lines().map(|line| serde_json::from_str::<EventLine>(line).unwrap().event).collect();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        matches!(events[0], TrainEvent::Started { resumed_from: Some(from), .. } if from == step),
        "{:?}",
        events[0]
    );
    assert!(matches!(events.last(), Some(TrainEvent::Finished { result, .. }) if result.success));
}

#[cfg(unix)]
fn is_whole(checkpoint: &Path) -> bool {
    fs::read_dir(checkpoint).is_ok_and(|entries| entries.count() > 0)
}
