//! Runs: their events, read in pieces and whole, and the orders that they take.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    events::{Event, Events},
    support::{PATIENCE, Server, small_run},
};

async fn start(server: &Server, changes: Value) -> String {
    let request = small_run(&server.rows(12), changes);
    let (status, started) = server.post("/api/finetune/start_training", request).await;
    assert_eq!(status, 200, "{started}");
    started["job_id"].as_str().unwrap().to_owned()
}

/// The events of a run, all of them or those after one that was received.
async fn events(server: &Server, job_id: &str, last: Option<u64>) -> Events {
    let mut request = server.client.get(format!("{}/api/runs/{job_id}/events", server.url));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last.to_string());
    }
    Events::open(request).await
}

async fn order(server: &Server, job_id: &str, order: &str, body: Value) {
    let (status, answer) = server.post(&format!("/api/runs/{job_id}/{order}"), body).await;
    assert_eq!(status, 200, "{order}: {answer}");
}

async fn until_step(events: &mut Events, step: u64) -> Vec<Event> {
    let mut read = Vec::new();
    loop {
        let event = events.next().await.expect("the run goes on");
        let there = event.data["event"] == "step" && event.data["step"].as_u64().unwrap() >= step;
        read.push(event);
        if there {
            return read;
        }
    }
}

#[tokio::test]
async fn a_stream_that_broke_off_loses_nothing_and_repeats_nothing() {
    let server = Server::start();
    let job = start(&server, json!({"max_steps": 12})).await;
    let mut received: Vec<Event> = Vec::new();
    // Each connection but the last is cut after some events, while the run is under way.
    for pieces in [1, 2, 6] {
        let mut stream = events(&server, &job, received.last().and_then(|event| event.id)).await;
        for _ in 0..pieces {
            received.push(stream.next().await.unwrap());
        }
    }
    let rest = events(&server, &job, received.last().and_then(|event| event.id)).await;
    received.extend(rest.rest().await);

    let seqs: Vec<u64> = received.iter().map(|event| event.data["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|two| two[1] == two[0] + 1), "no event is lost or comes twice: {seqs:?}");
    assert!(
        received.iter().all(|event| event.id == event.data["seq"].as_u64() && event.name.is_none()),
        "an event's id is its number"
    );
    let datas = |events: &[Event]| -> Value { events.iter().map(|event| event.data.clone()).collect() };
    let (status, history) = server.get(&format!("/api/runs/{job}/history")).await;
    assert_eq!((status, history), (200, datas(&received)), "the history is what the stream told");
    let again = events(&server, &job, None).await.rest().await;
    assert_eq!(datas(&again), datas(&received), "a run that is over is told from its beginning");
    let last = &received.last().unwrap().data;
    assert_eq!(last["event"], "finished", "the last event says how it ended");
    assert_eq!(last["result"]["success"], true, "{last}");
    assert_eq!(
        last["result"]["model_id"],
        server.get("/api/models/").await.1[0]["model_id"],
        "and names the model"
    );
    let after = received.last().unwrap().id;
    assert!(events(&server, &job, after).await.rest().await.is_empty(), "nothing comes after the last event");
}

#[tokio::test]
async fn a_run_is_paused_resumed_and_ended_with_or_without_its_model() {
    let server = Server::start();
    let long = json!({"max_steps": 5000, "save_steps": 5000, "eval_steps": 5000});
    let job = start(&server, long.clone()).await;
    let mut stream = events(&server, &job, None).await;
    until_step(&mut stream, 2).await;
    order(&server, &job, "pause", json!({})).await;
    let rest = stream.rest().await;
    assert_eq!(rest.last().unwrap().data["event"], "stopped", "a paused run's stream ends with that");
    let paused = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(paused["status"], "idle", "{paused}");
    let (_, run) = server.get(&format!("/api/runs/{job}")).await;
    assert_eq!(run["status"], "stopped", "{run}");
    let stopped_at = run["step"].as_u64().unwrap();

    order(&server, &job, "resume", json!({})).await;
    let mut stream = events(&server, &job, rest.last().unwrap().id).await;
    let read = until_step(&mut stream, stopped_at + 1).await;
    assert_eq!(read[0].data["event"], "started", "{:?}", read[0]);
    assert_eq!(read[0].data["resumed_from"], stopped_at, "it goes on where it was");
    let steps: Vec<u64> = read.iter().filter_map(|event| event.data["step"].as_u64()).collect();
    assert!(steps.iter().all(|step| *step > stopped_at), "no step is done twice: {steps:?}");

    order(&server, &job, "stop", json!({"keep": true})).await;
    let ended = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let (_, models) = server.get("/api/models/").await;
    assert_eq!(models.as_array().unwrap().len(), 1, "a run that is ended early has a model: {models}");
    drop(stream);

    let thrown = start(&server, long).await;
    let mut stream = events(&server, &thrown, None).await;
    until_step(&mut stream, 1).await;
    order(&server, &thrown, "stop", json!({"keep": false})).await;
    server.status_until(|status| status["status"] == "idle").await;
    let (status, answer) = server.get(&format!("/api/runs/{thrown}")).await;
    assert_eq!((status, answer), (404, json!({"detail": format!("Training run {thrown} not found")})));
    // Its folder goes a moment after its name.
    let start = Instant::now();
    while server.home.join("runs").join(&thrown).exists() {
        assert!(start.elapsed() < PATIENCE, "what is thrown away leaves no files");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.get("/api/models/").await.1, models, "and no model");

    let (_, runs) = server.get("/api/runs").await;
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    let (status, answer) = server.delete(&format!("/api/runs/{job}")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.get("/api/runs").await, (200, json!([])), "a deleted run is not listed");
    assert_eq!(server.get("/api/models/").await.1, models, "the model of a deleted run stays");
}

#[tokio::test]
async fn another_process_that_throws_a_run_away_stays_until_it_is_gone() {
    let server = Server::start();
    let job = start(&server, json!({"max_steps": 5000, "save_steps": 5000, "eval_steps": 5000})).await;
    let mut stream = events(&server, &job, None).await;
    until_step(&mut stream, 1).await;
    let output = Command::new(env!("CARGO_BIN_EXE_modelforge"))
        .args(["call", "runs_stop", "--json", &json!({"job_id": job, "keep": false}).to_string()])
        .env("MODELFORGE_HOME", &server.home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        !server.home.join("runs").join(&job).exists(),
        "nothing of the run is left when the command ends"
    );
    let (_, status) = server.get("/api/finetune/status").await;
    assert_eq!(status["status"], "idle", "{status}");
}
