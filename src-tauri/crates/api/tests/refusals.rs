//! What the app refuses, with which status, and that a refused request leaves nothing behind. No engine is needed: none
//! of these gets as far as one that works.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

use std::path::{Path, PathBuf};

use api::{Api, ChatModel, Launcher, Local};
use serde_json::{Map, Value, json};
use store::{Home, Resources, Store};
use types::{ApiError, TrainingConfig, error::Detail, files};

/// The app over an empty data folder, with engines started by `launcher`.
fn app(folder: &Path, launcher: impl Launcher + 'static) -> Api {
    let resources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources");
    let store = Store::open(Home::at(&folder.join("home")).unwrap()).unwrap();
    Api::new(store, Resources::at(resources), Box::new(launcher))
}

fn request(folder: &Path, changes: Value) -> Map<String, Value> {
    let dataset = folder.join("rows.jsonl");
    files::write(&dataset, b"{\"input\": \"a\", \"output\": \"b\"}\n").unwrap();
    let mut request = json!({"task": "text-generation", "model_name": store::STARTER, "dataset": dataset});
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    request.as_object().unwrap().clone()
}

async fn refused(api: &Api, request: &Map<String, Value>) -> ApiError {
    let config = match TrainingConfig::from_json(request) {
        Ok(config) => config,
        Err(fields) => return ApiError::invalid(fields),
    };
    match api.start_training(config).await {
        Ok(run) => panic!("{} was started", run.job_id()),
        Err(error) => error,
    }
}

fn job_folders(api: &Api) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(api.store().home().runs()).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

#[tokio::test]
async fn every_refusal_has_the_documented_status() {
    let temp = tempfile::tempdir().unwrap();
    let api = app(temp.path(), Local::new("no-such-program"));
    for (changes, status, fields, words) in [
        (json!({"lora_r": 0, "lora_rank": 1}), 400, 2, "lora_r"),
        (json!({"fp16": true}), 400, 1, "fp16"),
        (json!({"strategy": "dpo"}), 400, 0, "They need prompt, chosen and rejected"),
        (json!({"dataset": "/no/such/rows.jsonl"}), 400, 0, "Dataset validation failed: File not found"),
        (json!({"dataset": "sample:none"}), 400, 0, "order-slips"),
        (
            json!({"model_name": "owner-of/nothing"}),
            403,
            0,
            "Model owner-of/nothing is not accessible. Please check if you have the required permissions.",
        ),
        (json!({}), 500, 0, "An internal error occurred: the training engine did not start"),
    ] {
        let error = refused(&api, &request(temp.path(), changes.clone())).await;
        assert_eq!(error.status_code, status, "{changes}: {error}");
        assert!(error.to_string().contains(words), "{changes}: {error}");
        let told = if let Detail::Fields(list) = &error.detail { list.len() } else { 0 };
        assert_eq!(told, fields, "{changes}: every bad field is told at once: {error}");
        assert!(job_folders(&api).is_empty(), "{changes}: a refused run leaves no folder");
    }
    assert!(api.store().runs().unwrap().is_empty(), "nor is it listed");
    for id in ["train_1", "../runs", "model_1"] {
        assert_eq!(api.resume(id).await.err().unwrap().status_code, 404, "{id}");
        assert_eq!(api.model(id).unwrap_err().status_code, 404, "{id}");
    }
    assert_eq!(api.chat_model("model_1").unwrap_err().status_code, 404);
    assert_eq!(api.chat_model("owner-of/nothing").unwrap_err().status_code, 403);
}

#[tokio::test]
async fn a_model_whose_base_has_changed_is_not_loaded() {
    let temp = tempfile::tempdir().unwrap();
    let api = app(temp.path(), Local::new("no-such-program"));
    let folder = api.store().home().model("model_1").unwrap();
    std::fs::create_dir_all(folder.path()).unwrap();
    let config = types::TrainingConfig::from_json(&request(temp.path(), json!({"name": "mine"}))).unwrap();
    let config_json = api.resources().starter().join("config.json");
    let bytes = std::fs::metadata(&config_json).unwrap().len();
    for (sha256, fits) in [(files::sha256(&config_json).unwrap(), true), ("0".repeat(64), false)] {
        let manifest = json!({
            "version": 1, "model_id": "model_1", "name": "mine", "job_id": "train_1", "created_at": "2026-01-01T00:00:00Z",
            "base_model": {"name": store::STARTER, "path": "/gone", "files": [
                {"path": "config.json", "bytes": bytes, "sha256": sha256},
            ]},
            "dataset": {"name": "a", "path": "/a", "sha256": "", "train_rows": 1, "eval_rows": 0},
            "config": config, "seed": 1, "versions": {}, "metrics": {}, "steps": 1, "tokens": 1, "seconds": 1.0,
            "files": [],
        });
        files::write_json(&folder.manifest(), &manifest).unwrap();
        for name in ["model_1", "mine"] {
            match api.chat_model(name) {
                Ok(model) => {
                    assert!(fits, "an adapter on another base would talk nonsense");
                    assert_eq!(model.adapter_dir.as_deref(), Some(folder.path()));
                }
                Err(error) => assert!(!fits && error.to_string().contains("config.json"), "{error}"),
            }
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_engine_that_ends_at_once_is_told_with_its_exit_code() {
    let temp = tempfile::tempdir().unwrap();
    let api = app(temp.path(), Local::new("false"));
    let error = refused(&api, &request(temp.path(), json!({}))).await;
    assert_eq!(error.status_code, 500);
    assert!(error.to_string().contains("the training engine ended with exit code 1"), "{error}");
    assert!(api.store().active_run().unwrap().is_none(), "a dead engine blocks no other run");
    let starter = api.resources().starter();
    let model =
        ChatModel { name: "a".into(), model_id: None, base_dir: starter, adapter_dir: None, task: None };
    let error = api.chat(&model).await.err().unwrap();
    assert!(error.to_string().contains("the chat engine ended with exit code 1"), "{error}");
}
