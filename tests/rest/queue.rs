//! Runs that wait for their turn: with one app, over restarts of it, and with two.

use std::{fs, path::Path, time::Instant};

use serde_json::{Value, json};
use types::files;

use crate::support::{PATIENCE, Server, small_run};

const NO_HUB: (&str, &str) = ("HF_ENDPOINT", "http://127.0.0.1:9");

/// Steps that take longer than what is done meanwhile.
const LONG: u32 = 100_000;

fn serve(home: &Path) -> Server {
    Server::on(home, &[(NO_HUB.0, NO_HUB.1.as_ref())])
}

async fn ask(server: &Server, path: &str, changes: Value) -> String {
    let (code, told) = server.post(path, small_run(&server.rows(12), changes)).await;
    assert_eq!(code, 200, "{told}");
    told["job_id"].as_str().unwrap().to_owned()
}

async fn start_long(server: &Server) -> String {
    let changes = json!({"max_steps": LONG, "save_steps": LONG, "eval_steps": LONG});
    let job = ask(server, "/api/finetune/start_training", changes).await;
    until(server, &job, |run| run["step"].as_u64().unwrap() > 0).await;
    job
}

async fn run(server: &Server, job: &str) -> Value {
    let (code, run) = server.get(&format!("/api/runs/{job}")).await;
    assert_eq!(code, 200, "{run}");
    run
}

async fn until(server: &Server, job: &str, done: impl Fn(&Value) -> bool) -> Value {
    poll(server, &format!("/api/runs/{job}"), done).await
}

/// Asks again and again until the answer is as it is to be.
async fn poll(server: &Server, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let (code, told) = server.get(path).await;
        assert_eq!(code, 200, "{told}");
        if done(&told) {
            return told;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long: {told}");
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
}

async fn ended(server: &Server, job: &str) -> Value {
    until(server, job, |run| run["status"] != "running" && run["status"] != "queued").await
}

async fn waiting(server: &Server) -> Vec<String> {
    let (_, queue) = server.get("/api/queue").await;
    serde_json::from_value(queue["runs"].clone()).unwrap()
}

async fn order(server: &Server, path: &str, body: Value) -> Value {
    let (code, answer) = server.post(path, body).await;
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

#[tokio::test]
async fn runs_wait_are_moved_taken_out_and_begin_one_after_the_other() {
    let server = Server::start();
    let first = start_long(&server).await;
    let small = small_run(&server.rows(12), json!({}));
    let (code, refused) = server.post("/api/finetune/start_training", small.clone()).await;
    assert_eq!(code, 400, "who does not ask for the queue is refused as ever");
    assert_eq!(refused, json!({"detail": format!("Training already in progress: {first}")}));
    let (code, refused) = server.post("/api/queue", json!({"task": "text-generation", "lora_r": 0})).await;
    assert_eq!(code, 400, "what cannot run is refused at once: {refused}");

    let mut jobs = Vec::new();
    for name in ["a", "b", "c", "d"] {
        jobs.push(ask(&server, "/api/queue", json!({"name": name})).await);
    }
    let [a, b, c, d] = &jobs[..] else { unreachable!() };
    assert_eq!(waiting(&server).await, jobs, "in the order they came");
    let told = run(&server, c).await;
    assert_eq!((&told["status"], &told["place"]), (&json!("queued"), &json!(3)), "{told}");
    order(&server, &format!("/api/queue/{c}/place"), json!({"place": 1})).await;
    order(&server, &format!("/api/queue/{a}/place"), json!({"place": 99})).await;
    assert_eq!(waiting(&server).await, [c, b, d, a].map(Clone::clone));
    let (code, _) = server.delete(&format!("/api/queue/{b}")).await;
    assert_eq!(code, 200);
    assert_eq!(server.get(&format!("/api/runs/{b}")).await.0, 404, "one that never began is gone");
    let (code, told) = server.delete(&format!("/api/runs/{d}")).await;
    assert_eq!(code, 200, "a waiting run can be deleted: {told}");
    assert_eq!(waiting(&server).await, [c, a].map(Clone::clone));
    for (path, body) in [(b, 404), (&first, 400)] {
        let (code, told) = server.post(&format!("/api/queue/{path}/place"), json!({"place": 1})).await;
        assert_eq!(code, body, "{told}");
        assert_eq!(server.delete(&format!("/api/queue/{path}")).await.0, body);
    }

    order(&server, &format!("/api/runs/{first}/stop"), json!({"keep": true})).await;
    let [c, a] = [ended(&server, c).await, ended(&server, a).await];
    assert_eq!((&c["status"], &a["status"]), (&json!("completed"), &json!("completed")), "{c} {a}");
    assert!(c["updated_at"].as_str() <= a["updated_at"].as_str(), "one after the other, as they were put");
    assert_eq!(run(&server, &first).await["status"], "completed");
    assert_eq!(server.get("/api/queue").await.1, json!({"held": false, "runs": []}));
    assert_eq!(server.get("/api/models/").await.1.as_array().unwrap().len(), 3, "each made its model");
}

#[tokio::test]
async fn a_run_that_fails_holds_up_no_other_and_a_pause_holds_all() {
    let server = Server::start();
    let first = start_long(&server).await;
    let rows = server.rows(9);
    let gone = server.home.with_extension("gone.jsonl");
    fs::copy(&rows, &gone).unwrap();
    let fails = ask(&server, "/api/queue", json!({"dataset": gone})).await;
    let damaged = ask(&server, "/api/queue", json!({})).await;
    let last = ask(&server, "/api/queue", json!({})).await;
    fs::remove_file(&gone).unwrap();
    files::write(&server.home.join("runs").join(&damaged).join("run.json"), b"{}").unwrap();

    order(&server, &format!("/api/runs/{first}/pause"), json!({})).await;
    assert_eq!(ended(&server, &first).await["status"], "stopped");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (_, queue) = server.get("/api/queue").await;
    assert_eq!(queue, json!({"held": true, "runs": [fails, damaged, last]}), "who pauses wants the machine");

    let resumed = order(&server, &format!("/api/runs/{first}/resume"), json!({"queue": true})).await;
    assert!(resumed["message"].as_str().unwrap().contains("place 4"), "{resumed}");
    order(&server, "/api/queue/hold", json!({"held": false})).await;
    let failed = ended(&server, &fails).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(failed["error"], "Dataset validation failed: File not found");
    assert_eq!(ended(&server, &last).await["status"], "completed", "the next ones begin all the same");
    until(&server, &first, |run| run["status"] == "running").await;
    // It is running from the moment its engine is started; the engine says later that it goes on at a checkpoint.
    poll(&server, &format!("/api/runs/{first}/curve"), |curve| {
        let told = curve["events"].as_array().unwrap();
        told.iter().any(|line| line["resumed_from"].as_u64().is_some_and(|step| step > 0))
    })
    .await;
    order(&server, &format!("/api/runs/{first}/stop"), json!({"keep": false})).await;
    assert!(waiting(&server).await.is_empty());
}

#[tokio::test]
async fn the_queue_survives_the_app_and_two_apps_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut server = serve(&home);
    let first = start_long(&server).await;
    let jobs = [ask(&server, "/api/queue", json!({})).await, ask(&server, "/api/queue", json!({})).await];
    // As when the power is cut: nothing is put in order.
    server.child.kill().unwrap();
    server.child.wait().unwrap();

    let one = serve(&home);
    assert_eq!(waiting(&one).await, jobs, "who waited waits");
    assert_eq!(one.get("/api/info").await.1["other_app"], Value::Null);
    let mut two = serve(&home);
    let (_, info) = two.get("/api/info").await;
    let other = &info["other_app"];
    assert_eq!(other["pid"], one.child.id(), "the second is told: {info}");
    assert_eq!(other["address"], one.url.as_str());
    let said = fs::read_to_string(&two.log).unwrap();
    assert!(said.contains("open on this data folder already") && said.contains(&one.url), "{said}");
    assert_eq!(waiting(&two).await, jobs, "and shows the same");

    order(&two, &format!("/api/runs/{first}/stop"), json!({"keep": false})).await;
    for job in &jobs {
        let run = ended(&one, job).await;
        assert_eq!(run["status"], "completed", "{run}");
        let (_, history) = one.get(&format!("/api/runs/{job}/history")).await;
        let begun = history.as_array().unwrap().iter().filter(|line| line["event"] == "started").count();
        assert_eq!(begun, 1, "one of the two begins it, once");
    }
    drop(one);
    assert_eq!(two.get("/api/info").await.1["other_app"], Value::Null, "the second has the folder now");
    two.child.kill().unwrap();
    two.child.wait().unwrap();

    // While no app is open nothing begins; the next one begins what waits.
    let three = serve(&home);
    let long = start_long(&three).await;
    let last = ask(&three, "/api/queue", json!({})).await;
    order(&three, &format!("/api/runs/{long}/stop"), json!({"keep": true})).await;
    drop(three);
    let four = serve(&home);
    assert_eq!(ended(&four, &last).await["status"], "completed");
}

#[tokio::test]
async fn a_run_is_given_whole_at_one_go() {
    let server = Server::start();
    let job = ask(&server, "/api/queue", json!({"max_steps": 6, "eval_steps": 3})).await;
    assert_eq!(ended(&server, &job).await["status"], "completed", "with nothing under way it begins at once");
    let (_, history) = server.get(&format!("/api/runs/{job}/history")).await;
    let (code, curve) = server.get(&format!("/api/runs/{job}/curve")).await;
    assert_eq!(code, 200, "{curve}");
    let lines = history.as_array().unwrap();
    let steps: Vec<&Value> = lines.iter().filter(|line| line["event"] == "step").collect();
    let of = |name: &str| -> Value { steps.iter().map(|step| step[name].clone()).collect() };
    assert_eq!(curve["steps"]["step"], of("step"));
    for name in ["loss", "learning_rate", "grad_norm"] {
        for kind in ["low", "high", "mean", "last"] {
            assert_eq!(curve["steps"]["columns"][name][kind], of(name), "{name} {kind}");
        }
    }
    assert_eq!(curve["last"], *steps[5]);
    assert_eq!(curve["after"], lines.last().unwrap()["seq"]);
    let others: Vec<&Value> =
        lines.iter().filter(|line| line["event"] != "step" && line["event"] != "memory").collect();
    let told: Vec<&Value> =
        curve["events"].as_array().unwrap().iter().filter(|line| line["event"] != "memory").collect();
    assert_eq!(told, others, "all that it told");
    assert_eq!(server.get("/api/runs/train_20000101_000000/curve").await.0, 404);
}
