//! The engine as a process: jobs that are killed, stopped, resumed, fought over, starved of disk or broken.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use serde_json::json;
use types::{EventLine, JobFolder, RunSpec, TrainEvent, TrainingConfig, files};

const BIN: &str = env!("CARGO_BIN_EXE_modelforge");

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter")
}

/// A job on the starter model with a dozen short rows and `changes` to the settings.
fn job(home: &Path, changes: serde_json::Value) -> JobFolder {
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
struct Engine {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Engine {
    fn start(job: &JobFolder) -> Self {
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

    fn next(&mut self) -> Option<TrainEvent> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then(|| {
            serde_json::from_str::<EventLine>(&line).expect("every line of the engine is an event").event
        })
    }

    /// Reads on until an event is the one looked for.
    fn until(&mut self, found: impl Fn(&TrainEvent) -> bool) -> TrainEvent {
        loop {
            let event = self.next().expect("the engine ended before the event came");
            if found(&event) {
                return event;
            }
        }
    }

    /// Reads all remaining output and waits: exit status and standard error.
    fn finish(mut self) -> (ExitStatus, String) {
        while self.next().is_some() {}
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }
}

fn run_to_end(job: &JobFolder) -> (ExitStatus, String) {
    Engine::start(job).finish()
}

fn events(job: &JobFolder) -> Vec<TrainEvent> {
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
fn losses(job: &JobFolder) -> BTreeMap<u64, u64> {
    events(job)
        .into_iter()
        .filter_map(|e| if let TrainEvent::Step(s) = e { Some((s.step, s.loss.to_bits())) } else { None })
        .collect()
}

fn adapter(home: &Path) -> String {
    files::sha256(&home.join("models/model_20260101_000000/adapter_model.safetensors")).unwrap()
}

#[test]
fn a_killed_run_resumes_and_equals_the_undisturbed_one() {
    for packing in [false, true] {
        let changes = json!({"packing": packing, "max_seq_length": 64, "gradient_checkpointing": packing});
        let (calm, rough) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let undisturbed = job(calm.path(), changes.clone());
        let (status, stderr) = run_to_end(&undisturbed);
        assert!(status.success(), "an undisturbed run ends well: {stderr}");

        let killed = job(rough.path(), changes);
        for at in [3, 5] {
            let mut engine = Engine::start(&killed);
            engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step == at));
            engine.child.kill().unwrap();
            engine.finish();
        }
        let mut engine = Engine::start(&killed);
        let started = engine.until(|e| matches!(e, TrainEvent::Started { .. }));
        assert!(
            matches!(started, TrainEvent::Started { resumed_from: Some(4), .. }),
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
fn stop_keeps_a_checkpoint_and_the_next_start_finishes() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"save_steps": 100}));
    let mut engine = Engine::start(&job);
    engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step == 2));
    let mut stdin = engine.child.stdin.take().unwrap();
    stdin.write_all(b"{\"command\":\"stop\"}\n").unwrap();
    let stopped = engine.until(|e| matches!(e, TrainEvent::Stopped { .. }));
    let TrainEvent::Stopped { step, checkpoint } = stopped else { unreachable!() };
    assert!(step < 8, "the run stops soon, not at its end");
    assert_eq!(checkpoint, Some(job.checkpoint(step)), "a stopped run keeps a checkpoint of its last step");
    assert!(engine.finish().0.success(), "stopping is not a failure");
    assert!(!home.path().join("models").exists(), "a stopped run makes no model");
    assert!(run_to_end(&job).0.success());
    assert_eq!(losses(&job).keys().copied().collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let (status, stderr) = run_to_end(&job);
    assert!(
        !status.success() && stderr.contains("finished already"),
        "a finished run is not trained again: {stderr}"
    );
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

fn edit(job: &JobFolder, key: &str, value: serde_json::Value) {
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(job.run_json()).unwrap()).unwrap();
    spec[key] = value;
    files::write_json(&job.run_json(), &spec).unwrap();
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

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_the_run_with_a_clear_error_and_no_model() {
    let home = tempfile::tempdir().unwrap();
    let mount = home.path().join("small");
    fs::create_dir(&mount).unwrap();
    // A file system of its own that holds the job but neither its checkpoint nor its model.
    let script = format!(
        "mount -t tmpfs -o size=400k none '{mount}' && cp -r '{home}/job' '{mount}/job' && \
         '{BIN}' engine train '{mount}/job' </dev/null; code=$?; cp -r '{mount}/job' '{home}/after'; \
         ls -A '{mount}' >'{home}/left'; exit $code",
        mount = mount.display(),
        home = home.path().display(),
    );
    let job = job(home.path(), json!({"lora_r": 64}));
    edit(&job, "model_dir", json!(mount.join("models/model_20260101_000000")));
    let unshare = ["--user", "--map-root-user", "--mount"];
    let probe = Command::new("unshare").args(unshare).args(["sh", "-c", "mount -t tmpfs none /mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "SKIPPED: this machine lets nobody mount a small file system, so a full disk was not tested"
        );
        return;
    }
    let output = Command::new("unshare").args(unshare).args(["sh", "-c", &script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("No space left on device"), "the reason is told: {stderr}");
    assert!(stderr.contains("checkpoint"), "and the file: {stderr}");
    let left = fs::read_to_string(home.path().join("left")).unwrap();
    assert!(!left.contains("models"), "no model folder is made: {left}");
    let after = JobFolder::new(home.path().join("after"));
    assert_eq!(after.checkpoints().unwrap(), [0u64; 0], "no checkpoint looks whole that is not");
}

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
