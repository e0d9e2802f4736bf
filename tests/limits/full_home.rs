//! The app on a disk without room: each request says so, none ends the app, and all of it works again with room.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use hub_server::{HubServer, Trouble, Visibility};
use reqwest::Client;
use serde_json::{Value, json};
use types::files;

use crate::{
    engine::BIN,
    server::{PATIENCE, small_run},
    skipped,
    small_disk::SmallDisk,
};

/// `modelforge serve` with its data folder on a small disk.
struct Served {
    url: String,
    client: Client,
    child: Child,
}

impl Served {
    fn on(disk: &SmallDisk, hub: &str) -> Self {
        let home = disk.path().join("home");
        let mut child = disk
            .command(BIN)
            .args(["serve", "--port", "0"])
            .env("MODELFORGE_HOME", &home)
            .env("HF_HUB_CACHE", disk.path().join("cache"))
            .env("HF_ENDPOINT", hub)
            .env("HF_TOKEN_PATH", disk.path().join("no-token"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), client: Client::builder().no_proxy().build().unwrap(), child }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(reqwest::Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(reqwest::Method::GET, path, None).await
    }

    async fn until_idle(&self) -> Value {
        loop {
            let (_, status) = self.get("/api/finetune/status").await;
            if status["status"] != "running" {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn the_app_lives_on_a_full_disk_and_works_again_with_room() {
    let Some(disk) = SmallDisk::new(96 << 20) else {
        return skipped(
            "this machine lets nobody mount a small file system, so a full data folder was not tested",
        );
    };
    let outside = tempfile::tempdir().unwrap();
    let dataset = outside.path().join("rows.jsonl");
    let row = json!({"input": "What is in the box?", "output": "The box is empty."}).to_string() + "\n";
    files::write(&dataset, row.repeat(12).as_bytes()).unwrap();
    let server = Served::on(&disk, "http://127.0.0.1:9");
    let run = small_run(&dataset, json!({}));
    let (status, started) = server.post("/api/finetune/start_training", run.clone()).await;
    assert_eq!(status, 200, "{started}");
    let done = server.until_idle().await;
    assert_eq!(done["status"], "completed", "{done}");
    let (_, models) = server.get("/api/models/").await;
    let model = models[0]["model_id"].as_str().unwrap().to_owned();

    // Too little for a run: told before anything of it is made.
    disk.fill_but(8 << 20);
    let (status, refused) = server.post("/api/finetune/start_training", run.clone()).await;
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 400 && detail.contains("This run takes about") && detail.contains("free"), "{refused}");

    // Too little for an export: the same.
    let export = format!("/api/models/{model}/export");
    let (status, refused) = server.post(&export, json!({"format": "safetensors"})).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("the export needs"), "{refused}");

    // Nothing at all: the database and the uploads say so.
    disk.fill_but(0);
    let text = "x".repeat(200_000);
    let conversation = json!({
        "model": model,
        "messages": [{"role": "user", "content": text}],
    });
    let (status, refused) = server.ask(reqwest::Method::PUT, "/api/conversations", Some(conversation)).await;
    assert!(status >= 400, "{refused}");
    assert!(refused["detail"].to_string().contains("disk"), "the reason is told: {status} {refused}");
    for path in ["/api/health", "/api/models/", "/api/runs", "/api/storage", "/api/settings"] {
        let (status, answer) = server.get(path).await;
        assert_eq!(status, 200, "what only reads works: {path}: {answer}");
    }

    // What is no longer needed makes room.
    let (_, usage) = server.get("/api/storage").await;
    let spare = usage["spare"].as_array().unwrap();
    let checkpoints = spare.iter().find(|one| one["kind"] == "checkpoints").unwrap();
    let asked = json!({"kind": "checkpoints", "id": checkpoints["id"]});
    let (status, freed) = server.post("/api/storage/free", asked.clone()).await;
    assert_eq!((status, &freed["freed_bytes"]), (200, &checkpoints["bytes"]), "{freed}");
    let (status, again) = server.post("/api/storage/free", asked).await;
    assert_eq!(status, 404, "what is gone is told: {again}");

    disk.free();
    let (status, started) = server.post("/api/finetune/start_training", run).await;
    assert_eq!(status, 200, "{started}");
    let done = server.until_idle().await;
    assert_eq!(done["status"], "completed", "{done}");
}

/// A Hub that has a copy of the starter model, which takes about 12 MB.
fn hub_with_starter() -> HubServer {
    let hub = HubServer::start().unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter");
    hub.add_folder(MODEL, Visibility::Public, &starter).unwrap();
    hub
}

const MODEL: &str = "acme/starter";

#[tokio::test]
async fn a_download_begins_only_where_there_is_room_and_goes_on_where_it_stopped() {
    let Some(disk) = SmallDisk::new(96 << 20) else {
        return skipped(
            "this machine lets nobody mount a small file system, so a download without room was not tested",
        );
    };
    let outside = tempfile::tempdir().unwrap();
    let dataset = outside.path().join("rows.jsonl");
    let row = json!({"input": "What is in the box?", "output": "The box is empty."}).to_string() + "\n";
    files::write(&dataset, row.repeat(12).as_bytes()).unwrap();
    let hub = hub_with_starter();
    let server = Served::on(&disk, hub.url());
    let run = small_run(&dataset, json!({"model_name": MODEL}));

    disk.fill_but(8 << 20);
    let (status, refused) = server.post("/api/finetune/start_training", run.clone()).await;
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 400 && detail.contains("acme/starter takes 12 MB more"), "{refused}");
    let (_, runs) = server.get("/api/runs").await;
    assert_eq!(runs, json!([]), "nothing of it was made");
    disk.free();

    // The disk fills up while it is under way.
    hub.trouble(MODEL, &[Trouble::Slow(Duration::from_millis(30))]);
    let (status, started) = server.post("/api/finetune/start_training", run).await;
    assert_eq!(status, 200, "{started}");
    let path = format!("/api/runs/{}", started["job_id"].as_str().unwrap());
    while server.get(&path).await.1["download"]["bytes"].as_u64().unwrap_or(0) < 2 << 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    disk.fill_but(0);
    let ended = server.until_idle().await;
    assert!(ended.to_string().contains("No space left on device"), "the reason is told: {ended}");

    disk.free();
    hub.trouble(MODEL, &[]);
    hub.forget();
    let (status, resumed) = server.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(status, 200, "{resumed}");
    let done = server.until_idle().await;
    assert_eq!(done["status"], "completed", "{done}");
    let ranges: Vec<String> = hub.seen().into_iter().filter_map(|seen| seen.range).collect();
    let begins = |range: &String| range.strip_prefix("bytes=")?.split_once('-')?.0.parse::<u64>().ok();
    assert!(
        ranges.iter().filter_map(begins).any(|first| first > 1 << 20),
        "what had arrived is not asked for again: {ranges:?}"
    );
}
