//! Models and runs over real folders: what is listed, what is told of them, what a lost database costs.

mod events;
mod kept;
mod recovery;

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
        eval_dataset: None,
        reward_model: Vec::new(),
        dataset: DatasetOrigin {
            name: "a.jsonl".into(),
            path: "/a.jsonl".into(),
            sha256: String::new(),
            train_rows: 1,
            eval_rows: 0,
        },
        fallback: None,
        config: config(),
        seed: 42,
        versions: Default::default(),
        metrics: [("final_loss".to_owned(), 0.5)].into(),
        base_metrics: Default::default(),
        answered_rows: None,
        best_step: None,
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
        expected: None,
        finish_after: None,
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
    let begun = fs::read_to_string(&path).unwrap_or_default().lines().count();
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    for (seq, event) in (begun as u64..).zip(events) {
        let line = EventLine { seq, time: format!("at {seq}"), event };
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
        epoch: step as f64 / 3.0,
        loss: step as f64,
        learning_rate: 0.0,
        grad_norm: 0.0,
        tokens: 1,
        trained_tokens: 1,
        step_ms: 1.0,
        elapsed_ms: 1,
        metrics: Default::default(),
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
        assert_eq!(
            super::Store::open(store.home().clone()).unwrap().run(JOB).unwrap(),
            store.run(JOB).unwrap()
        );
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

#[test]
fn a_run_tells_what_a_status_line_needs() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    let run = store.run(JOB).unwrap();
    let times = (run.started_at, run.updated_at);
    assert_eq!((run.phase, run.epoch, times), (None, None, (None, None)), "nothing has happened yet");
    let phase = |phase| TrainEvent::Phase { phase };
    let memory = |peak_bytes| TrainEvent::Memory { peak_bytes, current_bytes: 1 };
    append(&store, [started(None), phase(types::Phase::Training), step(4), memory(70), memory(60)]);
    let run = store.run(JOB).unwrap();
    assert_eq!(run.phase, Some(types::Phase::Training));
    assert_eq!((run.step, run.total_steps, run.epoch), (4, Some(9), Some(4.0 / 3.0)));
    assert_eq!(run.num_train_epochs, config().num_train_epochs, "as the run was asked for");
    assert_eq!(run.peak_memory_bytes, Some(70), "the most of all engines that worked on it");
    assert_eq!((run.started_at.as_deref(), run.updated_at.as_deref()), (Some("at 0"), Some("at 4")));
    append(&store, [started(Some(3)), phase(types::Phase::LoadingModel)]);
    let run = store.run(JOB).unwrap();
    assert_eq!((run.step, run.epoch), (3, None), "a resumed run goes on from its checkpoint");
}

#[test]
fn a_deleted_run_is_gone_and_its_model_stays() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let spec = put_run(&store);
    store.add_run(&spec).unwrap();
    put_model(&store, MODEL);
    append(&store, [started(None), finished(true)]);
    let job = store.home().run(JOB).unwrap();
    fs::create_dir(job.checkpoint(1)).unwrap();
    store.set_current_run(Some(JOB)).unwrap();
    let unfinished = store.home().model_of(JOB).unwrap().unfinished();
    fs::create_dir(&unfinished).unwrap();
    files::write(&unfinished.join("adapter_model.safetensors"), b"half").unwrap();

    let lock = fs::File::create(job.lock()).unwrap();
    lock.lock().unwrap();
    let error = store.delete_run(JOB).unwrap_err();
    assert!(matches!(&error, StoreError::RunActive(id) if id == JOB), "{error}");
    assert_eq!(types::ApiError::from(error).status_code, 400);
    assert_eq!(store.run(JOB).unwrap().status, RunStatus::Running, "a refusal changes nothing");
    drop(lock);

    store.delete_run(JOB).unwrap();
    assert_eq!(fs::read_dir(store.home().runs()).unwrap().count(), 0, "log and checkpoints go with it");
    assert_eq!(store.current_run().unwrap(), None, "its progress is told no more");
    assert!(store.runs().unwrap().is_empty());
    assert!(store.model(MODEL).is_ok(), "the model is the person's");
    assert_eq!(fs::read_dir(store.home().models()).unwrap().count(), 1, "what was not finished goes");
    for unknown in [JOB, "../models", "", MODEL, "train_1/.."] {
        for result in [
            store.delete_run(unknown),
            store.run(unknown).map(drop),
            store.events(unknown).map(drop),
            store.events_after(unknown, Some(3), 1).map(drop),
            store.event_tail(unknown, None).map(drop),
            store.set_current_run(Some(unknown)),
        ] {
            assert!(matches!(result.unwrap_err(), StoreError::UnknownRun(_)), "{unknown:?}");
        }
    }
    put_run(&store);
    assert_eq!(store.run(JOB).unwrap().step, 0, "nothing of the deleted run is remembered");
}

#[test]
fn what_a_cut_short_deletion_left_goes_at_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let first = store(temp.path());
    let left = [first.home().runs().join(".deleted-train_1"), first.home().models().join(".deleted-model_1")];
    for folder in &left {
        fs::create_dir_all(folder.join("checkpoint-1")).unwrap();
    }
    assert!(first.runs().unwrap().is_empty() && first.models().unwrap().is_empty(), "nothing lists it");
    assert_eq!(first.active_run().unwrap(), None);
    drop(first);
    store(temp.path());
    assert!(left.iter().all(|folder| !folder.exists()), "its space is given back");
}

#[test]
fn runs_reserved_by_several_stores_are_different() {
    let temp = tempfile::tempdir().unwrap();
    let stores: Vec<Store> = (0..2).map(|_| store(temp.path())).collect();
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let reserve = |store: &'_ Store| -> Vec<String> {
            (0..10).map(|_| store.home().reserve_run().unwrap().0).collect()
        };
        let threads: Vec<_> = stores.iter().map(|store| scope.spawn(move || reserve(store))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "no id is given twice, whoever asks");
}

#[test]
fn usage_adds_up_every_part() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_model(&store, MODEL);
    put_run(&store);
    files::write(&store.home().datasets().join("rows.jsonl"), &[b'x'; 300]).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(usage.home, store.home().path());
    let manifest = fs::metadata(store.home().model(MODEL).unwrap().manifest()).unwrap().len();
    assert_eq!(usage.models_bytes, 1_000_000 + manifest);
    assert_eq!(usage.runs_bytes, fs::metadata(store.home().run(JOB).unwrap().run_json()).unwrap().len());
    assert_eq!(usage.datasets_bytes, 300);
    assert!(usage.database_bytes >= 4096, "a database has at least a page");
    assert_eq!(usage.cache_bytes, usage.cached.iter().map(|repository| repository.bytes).sum::<u64>());
}

#[test]
fn one_store_serves_many_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    shared(&store);
    put_run(&store);
    append(&store, [started(None)]);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut before = 0;
                    while before < 200 {
                        let run = store.run(JOB).unwrap();
                        assert!(run.step >= before, "a run does not go back");
                        before = run.step;
                        assert_eq!(store.runs().unwrap().len(), 1);
                        store.set_session(&store.session().unwrap()).unwrap();
                    }
                })
            })
            .collect();
        (1..=200).for_each(|n| append(&store, [step(n)]));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(store.events(JOB).unwrap().len(), 201);
}
