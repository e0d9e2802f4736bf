//! Datasets that are sent: whole or not at all, in the data folder and nowhere else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what cannot be set up ends the test")]

mod common;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use api::Api;
use common::{Answer, TOKEN, options, post, request, send, start, with_token};
use serde_json::json;
use server::{Limits, ServeOptions};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const ROWS: &str = "{\"input\": \"a\", \"output\": \"b\"}\n{\"input\": \"c\", \"output\": \"d\"}\n";

/// Sends a file under a name that is encoded already.
async fn upload(address: SocketAddr, name: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    send(address, request(address, &format!("POST /api/datasets/upload?name={name}"), &headers, body)).await
}

/// The names of the files in the folder of datasets.
fn kept(api: &Api) -> Vec<String> {
    let entries = fs::read_dir(api.store().home().datasets()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn what_was_sent_can_be_checked_and_no_name_is_taken_twice() {
    let (_temp, api, server) = start(options()).await;
    let address = server.address();
    let first = upload(address, "my%20rows.jsonl", "Content-Type: text/plain\r\n", ROWS).await;
    assert_eq!(first.status, 200, "{first:?}");
    let path = api.store().home().datasets().join("my rows.jsonl");
    assert_eq!(first.json(), json!({"dataset": path, "bytes": ROWS.len()}));
    assert_eq!(fs::read_to_string(&path).unwrap(), ROWS, "what is kept is what was sent");

    let check = json!({"dataset": first.json()["dataset"]}).to_string();
    let report = post(address, "/api/datasets/check", check.as_bytes()).await;
    assert_eq!(report.status, 200, "{report:?}");
    assert_eq!((&report.json()["rows"], &report.json()["error_count"]), (&json!(2), &json!(0)));

    let again = upload(address, "my%20rows.jsonl", "", ROWS).await;
    assert_eq!(again.json(), first.json(), "the same content is kept once");
    let other = ROWS.replace('a', "z");
    for _ in 0..2 {
        let answer = upload(address, "my%20rows.jsonl", "", &other).await;
        assert_eq!(
            answer.json()["dataset"],
            json!(path.with_file_name("my rows-2.jsonl")),
            "another content gets a number: {answer:?}"
        );
    }
    let chunked = format!("{:x}\r\n{ROWS}\r\n0\r\n\r\n", ROWS.len());
    let line = "POST /api/datasets/upload/?name=chunked.CSV";
    let answer = send(address, request(address, line, "Transfer-Encoding: chunked\r\n", &chunked)).await;
    assert_eq!(answer.status, 200, "a file may come in pieces: {answer:?}");
    assert_eq!(kept(&api), ["chunked.csv", "my rows-2.jsonl", "my rows.jsonl"]);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let limits = Limits { upload_bytes: 100, body: Duration::from_millis(200), ..Limits::default() };
    let (temp, api, server) = start(ServeOptions { limits, ..options() }).await;
    let address = server.address();
    for name in [
        "",
        "..%2Frows.csv",
        "../rows.csv",
        "%2Ftmp%2Frows.csv",
        "a%5Cb.csv",
        "C%3Arows.csv",
        "rows.csv%00.csv",
        "%2E%2E.csv",
        "rows.exe",
        "rows",
        "nul.csv",
        "rows.csv&name=b.csv",
        "rows.csv&folder=x",
        "%ff.csv",
    ] {
        let answer = upload(address, name, "", ROWS).await;
        assert_eq!(answer.status, 400, "{name:?}: {answer:?}");
        assert_eq!(answer.json()["detail"][0]["loc"][0], "query", "{name:?} is named: {answer:?}");
    }
    let long = "a".repeat(101);
    let chunked = format!("65\r\n{long}\r\n0\r\n\r\n");
    let line = "POST /api/datasets/upload?name=a.csv";
    for (rule, headers, body, status) in [
        ("too large, as it says", "Content-Length: 101\r\n", long.as_str(), 413),
        ("too large, as it turns out", "Transfer-Encoding: chunked\r\n", &chunked, 413),
        ("nothing in it", "Content-Length: 0\r\n", "", 400),
        ("it does not come", "Content-Length: 50\r\n", "abc", 408),
        ("a form", "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n", "abc", 415),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request(address, line, headers, body).as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.ok();
        let answer = Answer::parse(&bytes).unwrap();
        assert_eq!(answer.status, status, "{rule}: {answer:?}");
    }
    until("a refused file goes away", || kept(&api).is_empty()).await;
    let beside = fs::read_dir(temp.path()).unwrap().count();
    assert_eq!(beside, 1, "and nothing lies beside the data folder");
}

#[tokio::test]
async fn a_connection_that_is_cut_leaves_nothing() {
    let (_temp, api, server) = start(options()).await;
    let address = server.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        request(address, "POST /api/datasets/upload?name=cut.jsonl", "Content-Length: 1000000\r\n", ROWS);
    stream.write_all(head.as_bytes()).await.unwrap();
    until("a file under a temporary name", || kept(&api).len() == 1).await;
    assert!(!Path::new(&api.store().home().datasets()).join("cut.jsonl").exists(), "half a file has no name");
    drop(stream);
    until("what was cut goes away", || kept(&api).is_empty()).await;
}

#[tokio::test]
async fn only_who_may_use_the_server_may_send() {
    let (_temp, api, server) = start(with_token("127.0.0.1")).await;
    let address = server.address();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    for (rule, headers, status) in [
        ("no token", String::new(), 401),
        ("a page of another site", format!("{token}Origin: http://evil.example\r\n"), 403),
        ("the token", token, 200),
    ] {
        let answer = upload(address, "rows.jsonl", &headers, ROWS).await;
        assert_eq!(answer.status, status, "{rule}: {answer:?}");
        assert_eq!(kept(&api).len(), usize::from(status == 200), "{rule}");
    }
}
