//! What a termination signal to `modelforge serve` leaves behind while a run is under way.

use std::{path::Path, process::Command};

use serde_json::json;

use crate::support::{Server, small_run};

const NO_HUB: (&str, &str) = ("HF_ENDPOINT", "http://127.0.0.1:9");

fn serve(home: &Path, arguments: &[&str]) -> Server {
    Server::with(home, arguments, &[(NO_HUB.0, NO_HUB.1.as_ref())])
}

/// A server with a run that has done its first step.
async fn training(home: &Path, arguments: &[&str], steps: u32) -> (Server, String) {
    let server = serve(home, arguments);
    let run = small_run(&server.rows(12), json!({"max_steps": steps, "save_steps": 1000}));
    let (code, started) = server.post("/api/finetune/start_training", run).await;
    assert_eq!(code, 200, "{started}");
    server.status_until(|status| status["progress"].as_f64().is_some_and(|done| done > 0.0)).await;
    (server, started["job_id"].as_str().unwrap().to_owned())
}

fn terminate(mut server: Server) {
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let code = server.child.wait().unwrap().code();
    assert_eq!(code, Some(0), "a signal ends the server in good order");
}

#[tokio::test]
async fn a_run_goes_on_when_its_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let (server, job_id) = training(&home, &[], 60).await;
    terminate(server);

    let server = serve(&home, &[]);
    let status = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(status["status"], "completed", "the engine needs no server to come to its end: {status}");
    let (_, run) = server.get(&format!("/api/runs/{job_id}")).await;
    assert_eq!((&run["status"], &run["step"]), (&json!("completed"), &json!(60)));
}

#[tokio::test]
async fn a_run_pauses_with_its_server_where_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let (server, job_id) = training(&home, &["--on-exit", "pause"], 5000).await;
    terminate(server);

    let server = serve(&home, &[]);
    let (_, run) = server.get(&format!("/api/runs/{job_id}")).await;
    assert_eq!(run["status"], "stopped", "the server waited for the checkpoint: {run}");
    let paused_at = run["step"].as_u64().unwrap();
    let (code, answer) = server.post(&format!("/api/runs/{job_id}/resume"), json!({})).await;
    assert_eq!(code, 200, "{answer}");
    loop {
        let (_, run) = server.get(&format!("/api/runs/{job_id}")).await;
        if run["step"].as_u64().unwrap() > paused_at {
            break;
        }
        assert!(run["status"] == "running", "it goes on from step {paused_at}: {run}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (code, answer) = server.post(&format!("/api/runs/{job_id}/stop"), json!({"keep": false})).await;
    assert_eq!(code, 200, "{answer}");
}

#[tokio::test]
async fn a_run_outlives_its_server_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let (mut server, job_id) = training(&home, &[], 60).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();

    // While the engine works on, another server finds the run; it is killed too.
    let mut server = serve(&home, &[]);
    let (_, run) = server.get(&format!("/api/runs/{job_id}")).await;
    assert!(run["status"] == "running" || run["status"] == "completed", "{run}");
    let (code, refused) =
        server.post("/api/finetune/start_training", small_run(&server.rows(12), json!({}))).await;
    assert!(code == 400 || run["status"] == "completed", "the run is still the one under way: {refused}");
    server.child.kill().unwrap();
    server.child.wait().unwrap();

    let server = serve(&home, &[]);
    let status = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(status["status"], "completed", "{status}");
    let (_, events) = server.get(&format!("/api/runs/{job_id}/history")).await;
    let steps: Vec<u64> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["event"] == "step")
        .map(|event| event["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=60).collect::<Vec<_>>(), "the curve is whole");
    let (_, models) = server.get("/api/models/").await;
    assert_eq!(models.as_array().unwrap().len(), 1, "and its model is there: {models}");
}
