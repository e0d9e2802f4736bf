//! Requests byte by byte, which no well-behaved client would send, and what is on disk before and after them.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{PATIENCE, Server};

/// The status and the body of an answer; a body that is no JSON is a text.
pub fn send(server: &Server, method: &str, target: &str, body: Option<&[u8]>) -> (u16, Value) {
    let length =
        body.map(|body| format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    send_with(server, method, target, &length.unwrap_or_default(), body.unwrap_or_default())
}

/// The same with any headers, each with its line end.
pub fn send_with(server: &Server, method: &str, target: &str, headers: &str, body: &[u8]) -> (u16, Value) {
    let authority = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).expect("an answer is UTF-8");
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {target}: no answer"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)))
}

/// Every file below a folder with its content. What is written while reading is left out: locks, logs and what SQLite shares.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let content = match path.extension().and_then(|e| e.to_str()) {
                Some("db-shm" | "lock" | "log") => continue,
                _ if kind.is_file() => fs::read(&path).unwrap(),
                _ => Vec::new(),
            };
            if kind.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, content);
        }
    }
    found
}

/// The sentence of a refusal.
pub fn detail(answer: &Value) -> &str {
    answer["detail"].as_str().unwrap_or_else(|| panic!("the detail is a sentence: {answer}"))
}
