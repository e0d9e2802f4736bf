//! Finished models that are made again: the same weights to the bit, or a word on what is not as it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use types::files;

use crate::support::{Server, small_run};

async fn trained(server: &Server, dataset: &Path, changes: Value) -> String {
    let (code, started) = server.post("/api/finetune/start_training", small_run(dataset, changes)).await;
    assert_eq!(code, 200, "{started}");
    finished(server, started["job_id"].as_str().unwrap()).await
}

/// The id of the model that a run makes.
async fn finished(server: &Server, job_id: &str) -> String {
    let status = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(status["status"], "completed", "{status}");
    let (_, run) = server.get(&format!("/api/runs/{job_id}")).await;
    run["model_id"].as_str().unwrap().to_owned()
}

async fn again(server: &Server, model_id: &str, body: Value) -> (u16, Value) {
    server.post(&format!("/api/models/{model_id}/train_again"), body).await
}

fn weights(server: &Server, model_id: &str) -> String {
    let folder = server.home.join("models").join(model_id);
    files::sha256(&folder.join("adapter_model.safetensors")).unwrap()
}

#[tokio::test]
async fn a_model_is_made_again_to_the_bit() {
    let server = Server::start();
    let first = trained(&server, &server.rows(12), json!({"lora_dropout": 0.2, "name": "Boxes"})).await;
    let (code, origin) = server.get(&format!("/api/models/{first}/origin")).await;
    assert_eq!((code, &origin["same"], &origin["differences"]), (200, &json!(true), &json!([])), "{origin}");
    assert_eq!((&origin["download"], &origin["version_then"]), (&json!(false), &origin["version_now"]));

    let (code, started) = again(&server, &first, json!({})).await;
    assert_eq!(code, 200, "{started}");
    let second = finished(&server, started["job_id"].as_str().unwrap()).await;
    assert_ne!(second, first, "it is a model of its own");
    assert_eq!(weights(&server, &second), weights(&server, &first), "with the same weights");
    let (_, model) = server.get(&format!("/api/models/{second}")).await;
    assert_eq!(model["name"], "Boxes 2");

    let (code, answer) = again(&server, "model_20200101_000000", json!({})).await;
    assert_eq!(code, 404, "{answer}");
}

#[tokio::test]
async fn a_model_of_a_run_that_was_finished_early_is_made_again_as_it_is() {
    let server = Server::start();
    let request =
        small_run(&server.rows(12), json!({"max_steps": 4000, "save_steps": 1000, "eval_steps": 4000}));
    let (code, started) = server.post("/api/finetune/start_training", request).await;
    assert_eq!(code, 200, "{started}");
    let job_id = started["job_id"].as_str().unwrap();
    server.status_until(|status| status["progress"].as_f64().is_some_and(|done| done > 0.0)).await;
    let (code, answer) = server.post(&format!("/api/runs/{job_id}/stop"), json!({"keep": true})).await;
    assert_eq!(code, 200, "{answer}");
    let first = finished(&server, job_id).await;
    let (_, started) = again(&server, &first, json!({})).await;
    let second = finished(&server, started["job_id"].as_str().unwrap()).await;
    assert_eq!(weights(&server, &second), weights(&server, &first));
    let steps = async |id: &str| server.get(&format!("/api/models/{id}/manifest")).await.1["steps"].clone();
    assert_eq!(steps(&second).await, steps(&first).await, "after as many steps");
}

#[tokio::test]
async fn what_is_not_as_it_was_is_told_before_anything_starts() {
    let server = Server::start();
    let dataset = server.rows(12);
    let base = server.home.with_extension("base");
    fs::create_dir(&base).unwrap();
    let starter = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter");
    for entry in fs::read_dir(starter).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, base.join(path.file_name().unwrap())).unwrap();
    }
    let first = trained(&server, &dataset, json!({"model_name": base, "eval_dataset": server.rows(5)})).await;
    let origin = async || server.get(&format!("/api/models/{first}/origin")).await.1;
    let runs = async || server.get("/api/runs").await.1.as_array().unwrap().len();
    assert_eq!(origin().await["same"], true);

    let rows = fs::read(&dataset).unwrap();
    files::write(&dataset, &rows.to_ascii_lowercase()).unwrap();
    let config = base.join("generation_config.json");
    let text = fs::read(&config).unwrap();
    files::write(&config, &[text.as_slice(), b"\n"].concat()).unwrap();
    let told = origin().await;
    let parts: Vec<&str> =
        told["differences"].as_array().unwrap().iter().map(|d| d["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["base_model", "dataset"], "{told}");
    let (code, refused) = again(&server, &first, json!({})).await;
    assert_eq!(code, 400, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("generation_config.json"), "{refused}");
    assert_eq!(runs().await, 1, "nothing was started");

    // A change that is wanted all the same.
    let (code, started) = again(&server, &first, json!({"anyway": true})).await;
    assert_eq!(code, 200, "{started}");
    let second = finished(&server, started["job_id"].as_str().unwrap()).await;
    assert_ne!(weights(&server, &second), weights(&server, &first), "another model comes out");

    files::write(&config, &text).unwrap();
    fs::remove_file(&dataset).unwrap();
    let told = origin().await;
    assert_eq!(told["differences"][0]["missing"], true, "{told}");
    for anyway in [false, true] {
        let (code, refused) = again(&server, &first, json!({"anyway": anyway})).await;
        assert_eq!(code, 400, "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("no longer there"), "{refused}");
    }
    assert_eq!(runs().await, 2, "nothing was started");
}
