//! What a listener is told of changes, whoever makes them and however slowly it listens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up ends the test")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use api::{Api, Items, Local, Operation, Topic};
use serde_json::{Value, json};
use store::{Home, Resources, STARTER, Store};
use types::{RunSpec, TrainingConfig, files};

const TOPICS: [&str; 7] = ["runs", "models", "datasets", "conversations", "settings", "hub", "playground"];
const JOB: &str = "train_20260101_000000";

fn app(home: &Path) -> Arc<Api> {
    let store = Store::open(Home::at(home).unwrap()).unwrap();
    Arc::new(Api::new(store, Resources::at(home), Box::new(Local::new("no-such-program"))))
}

async fn call(api: &Arc<Api>, name: &str, request: Value) -> Value {
    Operation::find(name).unwrap().call(api, request.as_object().unwrap().clone()).await.unwrap()
}

async fn next(items: &mut Items) -> Value {
    let next = tokio::time::timeout(Duration::from_secs(60), items.recv()).await;
    next.expect("a change is told").unwrap().unwrap().data
}

/// Reads until this change is told.
async fn until(items: &mut Items, topic: &str, id: Option<&str>) {
    while next(items).await != json!({"topic": topic, "id": id}) {}
}

async fn listen(api: &Arc<Api>) -> Items {
    let mut items =
        Operation::find("app_changes").unwrap().stream(api, serde_json::Map::new()).await.unwrap();
    for topic in TOPICS {
        assert_eq!(
            next(&mut items).await,
            json!({"topic": topic, "id": null}),
            "who comes is told all topics"
        );
    }
    items
}

/// Puts a run into the data folder, as another process does.
fn put_run(home: &Path) {
    let config = json!({"task": "text-generation", "model_name": STARTER, "dataset": "rows.jsonl"});
    let home = Home::at(home).unwrap();
    let job = home.run(JOB).unwrap();
    let spec = RunSpec {
        version: RunSpec::VERSION,
        expected: None,
        finish_after: None,
        job_id: JOB.into(),
        model_id: JOB.replace("train", "model"),
        config: TrainingConfig::from_json(config.as_object().unwrap()).unwrap(),
        base_dir: home.models(),
        dataset_path: "rows.jsonl".into(),
        eval_dataset_path: None,
        model_dir: home.models(),
        created_at: "2026-01-01T00:00:00Z".into(),
    };
    fs::create_dir_all(job.path()).unwrap();
    files::write_json(&job.run_json(), &spec).unwrap();
}

#[tokio::test]
async fn a_listener_is_told_what_this_process_and_others_change() {
    let temp = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (app(temp.path()), app(temp.path()));
    let mut items = listen(&here).await;
    call(&here, "settings_set", json!({"offline": true})).await;
    until(&mut items, "settings", None).await;
    let said = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
    let kept = call(&here, "conversations_put", said.clone()).await;
    until(&mut items, "conversations", kept["id"].as_str()).await;

    call(&elsewhere, "conversations_put", said).await;
    until(&mut items, "conversations", None).await;
    put_run(temp.path());
    until(&mut items, "runs", Some(JOB)).await;
    let job = here.store().home().run(JOB).unwrap();
    files::write(&job.events(), b"{}\n").unwrap();
    until(&mut items, "runs", Some(JOB)).await;
    // As an engine holds it, and then ends without a word.
    let engine = fs::File::create(job.lock()).unwrap();
    engine.lock().unwrap();
    until(&mut items, "runs", Some(JOB)).await;
    drop(engine);
    until(&mut items, "runs", Some(JOB)).await;
    call(&elsewhere, "runs_delete", json!({"job_id": JOB})).await;
    until(&mut items, "runs", Some(JOB)).await;
    let model = here.store().home().model("model_20260101_000000").unwrap();
    fs::create_dir(model.path()).unwrap();
    files::write(&model.manifest(), b"{}").unwrap();
    until(&mut items, "models", Some("model_20260101_000000")).await;
}

#[tokio::test]
async fn a_slow_listener_holds_no_memory_and_misses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let api = app(temp.path());
    let mut items = listen(&api).await;
    for n in 0..10_000 {
        api.announce(Topic::Runs, n.to_string().as_str());
    }
    let mut told = Vec::new();
    while told.last() != Some(&json!({"topic": "runs", "id": "9999"})) {
        told.push(next(&mut items).await);
    }
    assert!(told.len() < 200, "what waits for a listener is bounded: {}", told.len());
    for topic in TOPICS {
        assert!(told.contains(&json!({"topic": topic, "id": null})), "who fell behind is told all topics");
    }
}
