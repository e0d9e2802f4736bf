//! Models and runs over real folders: what is listed, what is told of them, what a lost database costs.

use std::{fs, io::Write, path::Path};

use serde_json::json;
use types::{
    EventLine, Manifest, RunSpec, StepStats, TrainEvent, TrainingConfig, TrainingResult, files,
    manifest::{BaseModel, DatasetOrigin},
};

use super::*;

const MODEL: &str = "model_20260102_030405";
const JOB: &str = "train_20260102_030405";

fn store(folder: &Path) -> Store {
    Store::open(Home::at(folder).unwrap()).unwrap()
}

fn config() -> TrainingConfig {
    let request =
        json!({"task": "summarization", "model_name": STARTER, "dataset": "a.jsonl", "name": "mine"});
    TrainingConfig::from_json(request.as_object().unwrap()).unwrap()
}

fn manifest(model_id: &str) -> Manifest {
    Manifest {
        version: Manifest::VERSION,
        model_id: model_id.into(),
        name: "mine".into(),
        job_id: JOB.into(),
        created_at: "2026-01-02T03:04:05Z".into(),
        base_model: BaseModel { name: STARTER.into(), path: "/starter".into(), files: Vec::new() },
        dataset: DatasetOrigin {
            name: "a.jsonl".into(),
            path: "/a.jsonl".into(),
            sha256: String::new(),
            train_rows: 1,
            eval_rows: 0,
        },
        config: config(),
        seed: 42,
        versions: Default::default(),
        metrics: [("final_loss".to_owned(), 0.5)].into(),
        steps: 1,
        planned_steps: Some(1),
        tokens: 1,
        seconds: 1.0,
        peak_memory_bytes: None,
        files: Vec::new(),
    }
}

fn put_model(store: &Store, model_id: &str) {
    let folder = store.home().model(model_id).unwrap();
    fs::create_dir_all(folder.path().join("nested")).unwrap();
    files::write(&folder.path().join("nested/weights"), &vec![0; 1_000_000]).unwrap();
    files::write_json(&folder.manifest(), &manifest(model_id)).unwrap();
}

fn put_run(store: &Store) -> RunSpec {
    let spec = RunSpec {
        version: RunSpec::VERSION,
        job_id: JOB.into(),
        model_id: MODEL.into(),
        config: config(),
        base_dir: "/starter".into(),
        dataset_path: "/a.jsonl".into(),
        eval_dataset_path: None,
        model_dir: "/m".into(),
        created_at: "2026-01-02T03:04:05Z".into(),
    };
    let job = store.home().run(JOB).unwrap();
    fs::create_dir_all(job.path()).unwrap();
    files::write_json(&job.run_json(), &spec).unwrap();
    spec
}

fn append(store: &Store, events: impl IntoIterator<Item = TrainEvent>) {
    let path = store.home().run(JOB).unwrap().events();
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    for event in events {
        let line = EventLine { seq: 0, time: String::new(), event };
        writeln!(file, "{}", serde_json::to_string(&line).unwrap()).unwrap();
    }
}

fn started(resumed_from: Option<u64>) -> TrainEvent {
    TrainEvent::Started { job_id: JOB.into(), pid: 1, version: String::new(), resumed_from }
}

fn step(step: u64) -> TrainEvent {
    TrainEvent::Step(StepStats {
        step,
        total_steps: 9,
        epoch: 0.0,
        loss: step as f64,
        learning_rate: 0.0,
        grad_norm: 0.0,
        tokens: 1,
        trained_tokens: 1,
        step_ms: 1.0,
        elapsed_ms: 1,
    })
}

fn finished(success: bool) -> TrainEvent {
    let error = (!success).then(|| "no memory".to_owned());
    let result = TrainingResult { success, model_id: None, model_path: None, message: "over".into(), error };
    TrainEvent::Finished { result, metrics: Default::default() }
}

#[test]
fn the_list_of_models_follows_the_folders() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    assert!(store.models().unwrap().is_empty());
    put_model(&store, MODEL);
    assert_eq!(
        store.model(MODEL).unwrap().row.name,
        "mine",
        "a model need not be listed before it is looked at"
    );
    put_model(&store, "model_20260102_030405_2");
    fs::create_dir_all(store.home().models().join("model_1/half-written")).unwrap();
    fs::create_dir_all(store.home().models().join("notes")).unwrap();
    let broken = store.home().model("model_2").unwrap();
    fs::create_dir_all(broken.path()).unwrap();
    files::write(&broken.manifest(), b"{").unwrap();

    let models = store.models().unwrap();
    let ids: Vec<&str> = models.iter().map(|m| m.model_id.as_str()).collect();
    assert_eq!(ids, ["model_20260102_030405_2", MODEL], "complete folders only, the newest first");
    let row = serde_json::to_value(&models[1]).unwrap();
    let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
    let want = ["model_id", "name", "base_model", "task", "strategy", "created_at", "size_mb", "path"];
    assert_eq!(keys, want, "the documented eight keys");
    assert_eq!(row["size_mb"], json!(1.0), "all files count, in 10^6 bytes with one decimal");
    assert_eq!(store.models_for(types::Task::Summarization).unwrap().len(), 2);
    assert!(store.models_for(types::Task::TextGeneration).unwrap().is_empty());

    assert_eq!(store.model(MODEL).unwrap().manifest.metrics["final_loss"], 0.5);
    assert!(
        matches!(store.model("model_2").unwrap_err(), StoreError::BadFile { .. }),
        "a damaged manifest is told"
    );
    for unknown in ["model_1", "model_3", "../models", "notes"] {
        assert!(matches!(store.model(unknown).unwrap_err(), StoreError::UnknownModel(_)), "{unknown}");
    }

    store.delete_model(MODEL).unwrap();
    assert!(!store.home().models().join(MODEL).exists(), "deleting takes the files too");
    assert!(matches!(store.delete_model(MODEL).unwrap_err(), StoreError::UnknownModel(_)));
    fs::remove_dir_all(store.home().models().join("model_20260102_030405_2")).unwrap();
    assert!(store.models().unwrap().is_empty(), "a folder removed by hand leaves the list");
}

#[test]
fn a_damaged_database_costs_only_the_session() {
    let temp = tempfile::tempdir().unwrap();
    let first = store(temp.path());
    put_model(&first, MODEL);
    put_run(&first);
    let session = table::session::Session {
        task: Some("summarization".into()),
        selected_model: None,
        is_custom_model: true,
    };
    first.set_session(&session).unwrap();
    assert_eq!(first.session().unwrap(), session);
    let database = first.home().database();
    drop(first);
    files::write(&database, b"this is no database, but it is long enough to be taken for one").unwrap();

    let second = store(temp.path());
    let kept = second.moved_aside().unwrap();
    assert!(fs::read(kept).unwrap().starts_with(b"this is no database"), "the damaged file is kept");
    assert_eq!(second.models().unwrap()[0].model_id, MODEL, "models come back from their manifests");
    assert_eq!(second.runs().unwrap()[0].row.job_id, JOB, "runs come back from their descriptions");
    assert_eq!(second.session().unwrap(), Default::default(), "nothing is chosen any more");
}

#[test]
fn a_run_stands_as_its_last_event_says() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    let failed = || RunStatus::Failed { error: "no memory".into() };
    for (events, status, at) in [
        (vec![], RunStatus::Interrupted, 0),
        (vec![started(None), step(1), step(2)], RunStatus::Interrupted, 2),
        (vec![TrainEvent::Stopped { step: 2, checkpoint: None }], RunStatus::Stopped, 2),
        (vec![started(Some(1))], RunStatus::Interrupted, 1),
        (vec![step(2), finished(false)], failed(), 2),
        (vec![started(Some(1)), step(2), step(3), finished(true)], RunStatus::Completed, 3),
    ] {
        append(&store, events);
        let run = store.run(JOB).unwrap();
        assert_eq!(
            (&run.status, run.step),
            (&status, at),
            "after {} events",
            store.events(JOB).unwrap().len()
        );
        assert_eq!(run.status.can_resume(), status != RunStatus::Completed);
        assert_eq!(store.runs().unwrap(), [run], "the list tells the same");
    }
    let path = store.home().run(JOB).unwrap().events();
    let whole = store.events(JOB).unwrap().len();
    fs::File::options().append(true).open(path).unwrap().write_all(b"{\"seq\": 9, \"ti").unwrap();
    assert_eq!(store.events(JOB).unwrap().len(), whole, "half a line of a killed engine is passed over");
}

#[test]
fn a_run_is_active_while_its_engine_holds_the_lock() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    append(&store, [started(None)]);
    assert_eq!(store.active_run().unwrap(), None);
    let lock = fs::File::create(store.home().run(JOB).unwrap().lock()).unwrap();
    assert_eq!(store.active_run().unwrap(), None, "a lock file that nobody holds means nothing");
    lock.lock().unwrap();
    assert_eq!(store.active_run().unwrap().as_deref(), Some(JOB));
    assert_eq!(store.run(JOB).unwrap().status, RunStatus::Running);
    drop(lock);
    assert_eq!(store.active_run().unwrap(), None, "the system lets go of a dead engine's lock");
}

#[test]
fn unknown_and_hostile_runs_are_not_found() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    for unknown in ["train_1", "../runs", "", MODEL] {
        assert!(matches!(store.run(unknown).unwrap_err(), StoreError::UnknownRun(_)), "{unknown}");
    }
    files::write(&store.home().run(JOB).unwrap().run_json(), b"[]").unwrap();
    assert!(matches!(store.run(JOB).unwrap_err(), StoreError::BadFile { .. }));
}
