//! A small job on the starter model and the engines that work on it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use serde_json::json;
use types::{EventLine, JobFolder, RunSpec, TrainEvent, TrainingConfig, files};

pub const BIN: &str = env!("CARGO_BIN_EXE_modelforge");

pub fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter")
}

/// A job on the starter model with a dozen short rows and `changes` to the settings.
pub fn job(home: &Path, changes: serde_json::Value) -> JobFolder {
    let dataset = home.join("rows.jsonl");
    let rows: Vec<String> = (0..12)
        .map(|i| {
            json!({"input": format!("What is box {i}?"), "output": format!("Box {i} is blue.")}).to_string()
        })
        .collect();
    files::write(&dataset, rows.join("\n").as_bytes()).unwrap();
    let mut request = json!({
        "task": "text-generation", "model_name": "modelforge/starter", "dataset": dataset, "max_steps": 8,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "save_steps": 2, "eval_steps": 4,
        "lora_r": 4, "gradient_checkpointing": false, "learning_rate": 1e-3, "name": "test",
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
    let folder = JobFolder::new(home.join("job"));
    fs::create_dir(folder.path()).unwrap();
    let spec = RunSpec {
        version: RunSpec::VERSION,
        expected: None,
        finish_after: None,
        job_id: "train_20260101_000000".into(),
        model_id: "model_20260101_000000".into(),
        config,
        base_dir: starter(),
        dataset_path: dataset,
        eval_dataset_path: None,
        model_dir: home.join("models/model_20260101_000000"),
        created_at: types::id::now_rfc3339(),
    };
    files::write_json(&folder.run_json(), &spec).unwrap();
    folder
}

/// A running training engine.
pub struct Engine {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Engine {
    pub fn start(job: &JobFolder) -> Self {
        let mut child = Command::new(BIN)
            .args(["engine", "train"])
            .arg(job.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub fn next(&mut self) -> Option<TrainEvent> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then(|| {
            serde_json::from_str::<EventLine>(&line).expect("every line of the engine is an event").event
        })
    }

    /// Reads on until an event is the one looked for.
    pub fn until(&mut self, found: impl Fn(&TrainEvent) -> bool) -> TrainEvent {
        loop {
            let event = self.next().expect("the engine ended before the event came");
            if found(&event) {
                return event;
            }
        }
    }

    /// Reads all remaining output and waits: exit status and standard error.
    pub fn finish(mut self) -> (ExitStatus, String) {
        while self.next().is_some() {}
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }
}

pub fn run_to_end(job: &JobFolder) -> (ExitStatus, String) {
    Engine::start(job).finish()
}

pub fn events(job: &JobFolder) -> Vec<TrainEvent> {
    let text = fs::read_to_string(job.events()).unwrap();
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            let line: EventLine = serde_json::from_str(line).unwrap();
            assert_eq!(line.seq, i as u64, "events are numbered without gaps");
            line.event
        })
        .collect()
}

/// Bits of the loss of every step; a step that was done again after a kill counts as it was done last.
pub fn losses(job: &JobFolder) -> BTreeMap<u64, u64> {
    events(job)
        .into_iter()
        .filter_map(|e| if let TrainEvent::Step(s) = e { Some((s.step, s.loss.to_bits())) } else { None })
        .collect()
}

pub fn adapter(home: &Path) -> String {
    files::sha256(&home.join("models/model_20260101_000000/adapter_model.safetensors")).unwrap()
}

pub fn edit(job: &JobFolder, key: &str, value: serde_json::Value) {
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(job.run_json()).unwrap()).unwrap();
    spec[key] = value;
    files::write_json(&job.run_json(), &spec).unwrap();
}

/// What a chat engine answers to these requests when they are all written at once.
pub fn chat(requests: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let mut child = Command::new(BIN)
        .args(["engine", "chat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    // The end of the input would cancel what is under way: all replies are read first.
    let replies: Vec<_> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
        .take(requests.len())
        .collect();
    drop(stdin);
    child.wait().unwrap();
    replies
}
