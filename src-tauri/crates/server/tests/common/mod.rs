//! A server over a data folder of its own, and a client that sends any bytes.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "what cannot be set up ends the test; no test needs all of it"
)]

use std::{net::SocketAddr, path::Path, sync::Arc};

use api::{Api, Local};
use serde_json::{Value, json};
use server::{ServeOptions, Server, Token, serve};
use store::{Home, Resources, Store};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use types::{EventLine, RunSpec, TrainEvent, TrainingConfig, files};

pub const TOKEN: &str = "correct-horse-battery";
pub const JOB: &str = "train_20260101_000000";

/// The app over an empty data folder. No test here needs an engine.
pub fn app() -> (TempDir, Arc<Api>) {
    let temp = tempfile::tempdir().unwrap();
    let resources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources");
    let store = Store::open(Home::at(&temp.path().join("home")).unwrap()).unwrap();
    (temp, Arc::new(Api::new(store, Resources::at(resources), Box::new(Local::new("/nonexistent")))))
}

/// Options for a free port.
pub fn options() -> ServeOptions {
    ServeOptions { port: 0, ..ServeOptions::default() }
}

pub fn with_token(host: &str) -> ServeOptions {
    ServeOptions { host: host.into(), token: Some(Token::new(TOKEN).unwrap()), ..options() }
}

pub async fn start(options: ServeOptions) -> (TempDir, Arc<Api>, Server) {
    let (temp, api) = app();
    let server = serve(Arc::clone(&api), options).await.unwrap();
    (temp, api, server)
}

/// An answer, read until the server closes the connection.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())).unwrap();
        Some(Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Sends bytes as they are and reads to the end of the connection. `{port}` stands for the server's port.
pub async fn send(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let bytes = send_raw(address, request).await;
    Answer::parse(&bytes).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)))
}

pub async fn send_raw(address: SocketAddr, request: impl AsRef<[u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses early may close before all is sent.
    stream.write_all(request.as_ref()).await.ok();
    let mut bytes = Vec::new();
    // A connection that is reset has given what it had to give.
    stream.read_to_end(&mut bytes).await.ok();
    bytes
}

/// A request with a right Host header and more headers, each line ended by `\r\n`.
pub fn request(address: SocketAddr, line: &str, headers: &str, body: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n{body}")
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, request(address, &format!("GET {path}"), "", "")).await
}

/// POSTs JSON text, however bad.
pub async fn post(address: SocketAddr, path: &str, body: &[u8]) -> Answer {
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let mut bytes = request(address, &format!("POST {path}"), &headers, "").into_bytes();
    bytes.extend_from_slice(body);
    send(address, bytes).await
}

/// Puts a run with these many steps into the data folder, as an engine would have left it.
pub fn put_run(api: &Api, steps: u64) {
    let dataset = api.store().home().path().join("rows.jsonl");
    let config = json!({"task": "text-generation", "model_name": store::STARTER, "dataset": dataset});
    let spec = RunSpec {
        version: RunSpec::VERSION,
        expected: None,
        finish_after: None,
        job_id: JOB.into(),
        model_id: JOB.replace("train", "model"),
        config: TrainingConfig::from_json(config.as_object().unwrap()).unwrap(),
        base_dir: api.resources().starter(),
        dataset_path: dataset,
        eval_dataset_path: None,
        model_dir: api.store().home().models(),
        created_at: "2026-01-01T00:00:00Z".into(),
    };
    let job = api.store().home().run(JOB).unwrap();
    std::fs::create_dir_all(job.path()).unwrap();
    files::write_json(&job.run_json(), &spec).unwrap();
    let lines: String = (0..steps)
        .map(|seq| {
            let event = TrainEvent::Stopped { step: seq, checkpoint: None };
            let line = EventLine { seq, time: "2026-01-01T00:00:00Z".into(), event };
            serde_json::to_string(&line).unwrap() + "\n"
        })
        .collect();
    files::write(&job.events(), lines.as_bytes()).unwrap();
    api.store().add_run(&spec).unwrap();
}
