//! Runs that two want at once, that lose their dataset, their engine, their server or their folder.

use std::{ffi::OsStr, fs, path::Path};

use serde_json::{Value, json};
use types::files;

use crate::{
    processes::{engine, kill},
    raw::detail,
    support::{Server, small_run},
};

/// Steps of a run that is still at work when it is looked at.
const MANY_STEPS: u32 = 60;

#[tokio::test]
async fn of_many_starts_at_once_one_wins() {
    let server = Server::start();
    let request = small_run(&server.rows(12), json!({"max_steps": 100_000}));
    let starts: Vec<_> = (0..8)
        .map(|_| {
            // A connection each, so that none waits for another's.
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let asked = client.post(format!("{}/api/finetune/start_training", server.url)).json(&request);
            tokio::spawn(async move {
                let answer = asked.send().await.unwrap();
                (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
            })
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for start in starts {
        match start.await.unwrap() {
            (200, answer) => won.push(answer["job_id"].as_str().unwrap().to_owned()),
            (status, answer) => lost.push((status, detail(&answer).to_owned())),
        }
    }
    assert_eq!(won.len(), 1, "exactly one start wins: {won:?}");
    for refused in &lost {
        assert_eq!(
            *refused,
            (400, format!("Training already in progress: {}", won[0])),
            "the others are told which"
        );
    }
    assert_eq!(run_folders(&server.home), [won[0].as_str()], "those who lost leave no folder");
    throw_away(&server, &won[0]).await;
}

#[tokio::test]
async fn a_dataset_that_vanishes_is_told() {
    let server = Server::start();
    let dataset = server.rows(12);
    let rows = fs::read(&dataset).unwrap();
    let (status, report) = server.post("/api/datasets/check", json!({"dataset": dataset})).await;
    assert_eq!(status, 200, "{report}");
    fs::remove_file(&dataset).unwrap();
    let request = small_run(&dataset, json!({"max_steps": MANY_STEPS}));
    let (status, refused) = server.post("/api/finetune/start_training", request.clone()).await;
    assert_eq!(
        (status, detail(&refused)),
        (400, "Dataset validation failed: File not found"),
        "between check and start"
    );
    assert!(run_folders(&server.home).is_empty(), "a refused start leaves nothing");
    let (_, datasets) = server.get("/api/datasets").await;
    assert_eq!(datasets[0]["exists"], false, "the list of datasets tells it too: {datasets}");

    files::write(&dataset, &rows).unwrap();
    let job = start(&server, &request).await;
    at_a_step(&server).await;
    pause(&server, &job).await;
    fs::remove_file(&dataset).unwrap();
    let (status, resumed) = server.post(&format!("/api/runs/{job}/resume"), json!({})).await;
    assert_eq!(status, 200, "{resumed}");
    let failed = server.status_until(|s| s["status"] != "running").await;
    assert_eq!(failed["status"], "error", "a run cannot be taken up without its dataset: {failed}");
    assert_eq!(
        failed["error"], "Dataset validation failed: File not found",
        "in the same words as at a start"
    );

    files::write(&dataset, &rows).unwrap();
    let (status, resumed) = server.post(&format!("/api/runs/{job}/resume"), json!({})).await;
    assert_eq!(status, 200, "{resumed}");
    at_a_step(&server).await;
    fs::remove_file(&dataset).unwrap();
    let done = server.status_until(|s| s["status"] != "running").await;
    assert_eq!(done["status"], "completed", "a run that has read its dataset does without it: {done}");
}

#[tokio::test]
async fn a_killed_engine_is_told_and_its_run_can_be_resumed() {
    let server = Server::start();
    let job = start(&server, &small_run(&server.rows(12), json!({"max_steps": MANY_STEPS}))).await;
    at_a_step(&server).await;
    server.status_until(|_| checkpoints(&server.home, &job) > 0).await;
    kill(engine(&server, "train").await);
    let failed = server.status_until(|s| s["status"] != "running").await;
    assert_eq!(
        (&failed["status"], &failed["message"]),
        (&json!("error"), &json!("Training failed")),
        "{failed}"
    );
    let reason = failed["error"].as_str().unwrap();
    assert!(reason.contains("signal 9") && reason.contains("memory"), "the reason is readable: {reason}");
    assert!(checkpoints(&server.home, &job) > 0, "what was computed is kept");
    let (_, run) = server.get(&format!("/api/runs/{job}")).await;
    assert_eq!(run["status"], "interrupted", "{run}");
    assert_eq!(server.get("/api/models/").await.1, json!([]), "half a model is not listed");

    let (status, resumed) = server.post(&format!("/api/runs/{job}/resume"), json!({})).await;
    assert_eq!((status, &resumed["job_id"]), (200, &json!(job)), "{resumed}");
    let done = server.status_until(|s| s["status"] != "running").await;
    assert_eq!(done["status"], "completed", "{done}");
    let (_, history) = server.get(&format!("/api/runs/{job}/history")).await;
    let resumed = history.as_array().unwrap().iter().any(|line| line["resumed_from"].as_u64().is_some());
    assert!(resumed, "it went on at a checkpoint");
    assert_eq!(server.get("/api/models/").await.1.as_array().unwrap().len(), 1, "its model is listed");
    let (status, refused) = server.post(&format!("/api/runs/{job}/resume"), json!({})).await;
    assert_eq!(status, 400, "a finished run is not resumed: {refused}");
}

#[tokio::test]
async fn a_run_does_without_its_server() {
    let mut server = Server::start();
    let job = start(&server, &small_run(&server.rows(12), json!({"max_steps": 100_000}))).await;
    at_a_step(&server).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();

    let next = Server::on(&server.home, &[("HF_ENDPOINT", OsStr::new("http://127.0.0.1:9"))]);
    let (_, status) = next.get("/api/finetune/status").await;
    assert_eq!(status["status"], "running", "a new server knows of the run: {status}");
    let (code, refused) =
        next.post("/api/finetune/start_training", small_run(&next.rows(12), json!({}))).await;
    assert_eq!((code, detail(&refused)), (400, &*format!("Training already in progress: {job}")));
    assert_eq!(next.delete(&format!("/api/runs/{job}")).await.0, 400, "a run under way is not deleted");
    next.status_until(|s| s["status"] != "running" || s["message"] != status["message"]).await;
    assert_eq!(next.post(&format!("/api/runs/{job}/stop"), json!({"keep": true})).await.0, 200);
    let done = next.status_until(|s| s["status"] != "running").await;
    assert_eq!(
        done["status"], "completed",
        "its engine went on and takes orders from the new server: {done}"
    );
    assert_eq!(next.get("/api/models/").await.1.as_array().unwrap().len(), 1, "its model is listed");
}

#[tokio::test]
async fn the_status_follows_the_run_and_not_the_wish() {
    let server = Server::start();
    let job = start(&server, &small_run(&server.rows(12), json!({"max_steps": 100_000}))).await;
    at_a_step(&server).await;
    assert_eq!(server.post("/api/finetune/reset_status", json!({})).await.0, 200);
    let (_, status) = server.get("/api/finetune/status").await;
    assert_eq!(status["status"], "running", "what is under way cannot be forgotten: {status}");
    throw_away(&server, &job).await;

    let idle = json!({"status": "idle", "progress": 0, "message": "No training in progress", "error": null});
    for by_hand in [false, true] {
        server.trained_model().await;
        let (_, runs) = server.get("/api/runs").await;
        let job = runs[0]["job_id"].as_str().unwrap();
        if by_hand {
            fs::remove_dir_all(server.home.join("runs").join(job)).unwrap();
        } else {
            assert_eq!(server.delete(&format!("/api/runs/{job}")).await.0, 200);
        }
        assert_eq!(
            server.get("/api/finetune/status").await,
            (200, idle.clone()),
            "a run without a folder is none"
        );
        assert_eq!(server.get(&format!("/api/runs/{job}")).await.0, 404);
    }
    assert_eq!(server.get("/api/models/").await.1.as_array().unwrap().len(), 2, "the models they made stay");
}

async fn start(server: &Server, request: &Value) -> String {
    let (status, started) = server.post("/api/finetune/start_training", request.clone()).await;
    assert_eq!(status, 200, "{started}");
    started["job_id"].as_str().unwrap().to_owned()
}

/// Waits until the run under way has done a step.
async fn at_a_step(server: &Server) {
    let status = server
        .status_until(|s| {
            let message = s["message"].as_str().unwrap();
            s["status"] != "running" || message.contains("Step ") && !message.contains("Step 0/")
        })
        .await;
    assert_eq!(status["status"], "running", "the run is long enough to be looked at: {status}");
}

async fn pause(server: &Server, job: &str) {
    assert_eq!(server.post(&format!("/api/runs/{job}/pause"), json!({})).await.0, 200);
    let status = server.status_until(|s| s["status"] != "running").await;
    assert!(status["message"].as_str().unwrap().starts_with("Training paused"), "{status}");
}

async fn throw_away(server: &Server, job: &str) {
    assert_eq!(server.post(&format!("/api/runs/{job}/stop"), json!({"keep": false})).await.0, 200);
    server.status_until(|s| s["status"] == "idle" && run_folders(&server.home).is_empty()).await;
}

fn run_folders(home: &Path) -> Vec<String> {
    let entries = fs::read_dir(home.join("runs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("train_")).collect()
}

fn checkpoints(home: &Path, job: &str) -> usize {
    types::JobFolder::new(home.join("runs").join(job)).checkpoints().unwrap().len()
}
