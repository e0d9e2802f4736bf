//! `modelforge serve` as its users start it, and a plain HTTP client.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use types::files;

/// The longest that anything here is waited for.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A server over a data folder of its own.
pub struct Server {
    pub url: String,
    pub home: PathBuf,
    pub client: Client,
    pub child: Child,
    /// What it says on standard error.
    pub log: PathBuf,
    _folder: Option<TempDir>,
}

impl Server {
    /// On an empty data folder, with no Hub to be reached.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server =
            Self::on(&folder.path().join("home"), &[("HF_ENDPOINT", "http://127.0.0.1:9".as_ref())]);
        server._folder = Some(folder);
        server
    }

    /// On this data folder, with these environment variables.
    pub fn on(home: &Path, variables: &[(&str, &OsStr)]) -> Self {
        Self::with(home, &[], variables)
    }

    /// The same with more arguments.
    pub fn with(home: &Path, arguments: &[&str], variables: &[(&str, &OsStr)]) -> Self {
        let cache = home.with_extension("hub-cache");
        let log = home.with_extension("log");
        files::write(&log, b"").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_modelforge"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .env("MODELFORGE_HOME", home)
            .env("HF_HUB_CACHE", cache)
            .env("HF_TOKEN_PATH", home.with_extension("no-token"))
            .env_remove("HF_TOKEN")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "serve prints its address: {url:?}");
        Self {
            url,
            home: home.to_owned(),
            client: Client::builder().no_proxy().build().unwrap(),
            child,
            log,
            _folder: None,
        }
    }

    /// The status and the JSON of an answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: not JSON ({e}): {text}"));
        (status, json)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(Method::DELETE, path, None).await
    }

    /// Asks for the status until it is what is waited for.
    pub async fn status_until(&self, mut done: impl FnMut(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let (code, status) = self.get("/api/finetune/status").await;
            assert_eq!(code, 200, "{status}");
            if done(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "waited too long: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Trains a small model to the end and gives its id.
    pub async fn trained_model(&self) -> String {
        let (code, started) =
            self.post("/api/finetune/start_training", small_run(&self.rows(12), json!({}))).await;
        assert_eq!(code, 200, "{started}");
        let status = self.status_until(|s| s["status"] != "running").await;
        assert_eq!(status["status"], "completed", "{status}");
        let (_, models) = self.get("/api/models/").await;
        models[0]["model_id"].as_str().unwrap().to_owned()
    }

    /// A dataset of short rows for text generation.
    pub fn rows(&self, count: usize) -> PathBuf {
        let rows: Vec<String> = (0..count)
            .map(|i| {
                json!({"input": format!("What is box {i}?"), "output": format!("Box {i} is blue.")})
                    .to_string()
            })
            .collect();
        let path = self.home.with_extension(format!("{count}-rows.jsonl"));
        files::write(&path, rows.join("\n").as_bytes()).unwrap();
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already needs no ending.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A run on the starter model that takes about a second.
pub fn small_run(dataset: &Path, changes: Value) -> Value {
    let mut request = json!({
        "task": "text-generation", "model_name": "modelforge/starter", "dataset": dataset, "max_steps": 4,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "lora_r": 4, "save_steps": 2, "eval_steps": 4,
        "gradient_checkpointing": false, "name": "test",
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    request
}

/// The keys of an object, in their order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
