//! How the server holds up while a run trains: 200 clients ask for the status and the list of models, once as pages do
//! (each once a second) and once without a pause. Prints figures; run it with
//! `cargo test --test load -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "what cannot be set up ends the measurement, which is printed"
)]

#[path = "rest/support.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use support::Server;

const CLIENTS: usize = 200;
const STEPS: u32 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn two_hundred_clients_while_a_run_trains() {
    let server = Arc::new(Server::start());
    let alone = train(&server).await;
    println!("no clients: {alone:.2} ms a step (median of {STEPS})");
    for (name, pause) in [("once a second", Duration::from_secs(1)), ("without a pause", Duration::ZERO)] {
        let stop = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                tokio::spawn(poll(Arc::clone(&server), number, pause, Arc::clone(&stop), Arc::clone(&failed)))
            })
            .collect();
        let loaded = train(&server).await;
        stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await.unwrap());
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{CLIENTS} clients, each {name}: {} requests, {} failed, p50 {:.1} ms, p99 {:.1} ms; {loaded:.2} ms a step, \
             {:.2} times as long",
            times.len(),
            failed.load(Ordering::Relaxed),
            at(0.5),
            at(0.99),
            loaded / alone
        );
        assert_eq!(failed.load(Ordering::Relaxed), 0, "every request is answered");
    }
}

async fn poll(
    server: Arc<Server>,
    number: usize,
    pause: Duration,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
) -> Vec<f64> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    // Pages are not opened all in the same moment.
    tokio::time::sleep(pause * number as u32 / CLIENTS as u32).await;
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for path in ["/api/finetune/status", "/api/models/"] {
            let start = Instant::now();
            let answer = client.get(format!("{}{path}", server.url)).send().await;
            let whole = match answer {
                Ok(answer) if answer.status() == 200 => answer.bytes().await.is_ok(),
                _ => false,
            };
            times.push(start.elapsed().as_secs_f64() * 1e3);
            failed.fetch_add(u64::from(!whole), Ordering::Relaxed);
        }
        tokio::time::sleep(pause).await;
    }
    times
}

/// Trains and gives the median time of a step in milliseconds.
async fn train(server: &Server) -> f64 {
    let run = support::small_run(
        &server.rows(200),
        json!({"max_steps": STEPS, "eval_split": 0, "save_steps": 1000}),
    );
    let (code, started) = server.post("/api/finetune/start_training", run).await;
    assert_eq!(code, 200, "{started}");
    let status = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(status["status"], "completed", "{status}");
    let job = started["job_id"].as_str().unwrap();
    let (_, history) = server.get(&format!("/api/runs/{job}/history")).await;
    let steps = history.as_array().unwrap().iter().filter_map(|event| event["step_ms"].as_f64());
    let mut steps: Vec<f64> = steps.collect();
    steps.sort_by(f64::total_cmp);
    steps[steps.len() / 2]
}
