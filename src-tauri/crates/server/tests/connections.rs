//! Streams, slow clients and the end of the server, on real sockets.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

mod common;

use std::{fs::File, time::Duration};

use common::{Answer, JOB, get, options, put_run, request, send, send_raw, start};
use server::{Limits, ServeOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SHORT: Duration = Duration::from_millis(100);

fn limited(limits: Limits) -> ServeOptions {
    ServeOptions { limits, ..options() }
}

/// The ids of the events of an answer.
fn ids(answer: &Answer) -> Vec<u64> {
    let text = answer.text();
    text.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_that_arrived() {
    let (_temp, api, server) = start(options()).await;
    let address = server.address();
    put_run(&api, 5);
    let path = format!("/api/runs/{JOB}/events");
    for (rule, query, header, want) in [
        ("all of it", "", "", vec![0, 1, 2, 3, 4]),
        ("as the query says", "?after=2", "", vec![3, 4]),
        ("as the header says", "", "Last-Event-ID: 1\r\n", vec![2, 3, 4]),
        ("a browser repeats its query: the header is newer", "?after=0", "Last-Event-ID: 3\r\n", vec![4]),
        ("there is nothing more", "", "Last-Event-ID: 4\r\n", vec![]),
    ] {
        let answer = send(address, request(address, &format!("GET {path}{query}"), header, "")).await;
        assert_eq!(answer.status, 200, "{rule}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(ids(&answer), want, "{rule}");
        let data: Vec<serde_json::Value> = answer
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|json| serde_json::from_str(json).unwrap())
            .collect();
        let seqs: Vec<u64> = data.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, want, "{rule}: each event is one line of JSON");
    }
    let bad = send(address, request(address, &format!("GET {path}"), "Last-Event-ID: x\r\n", "")).await;
    assert_eq!(bad.status, 400, "{bad:?}");
    assert_eq!(
        get(address, "/api/runs/train_20990101_000000/events").await.status,
        404,
        "before the stream begins"
    );
}

#[tokio::test]
async fn the_end_of_the_server_ends_open_streams_in_order() {
    let limits = Limits { keep_alive: SHORT, grace: Duration::from_secs(60), ..Limits::default() };
    let (_temp, api, server) = start(limited(limits)).await;
    let address = server.address();
    put_run(&api, 1);
    // As an engine at work holds it: the stream has no end of its own.
    let engine = File::create(api.store().home().run(JOB).unwrap().lock()).unwrap();
    engine.lock().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(request(address, &format!("GET /api/runs/{JOB}/events"), "", "").as_bytes())
        .await
        .unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b":\n\n\r\n") {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "a quiet stream is kept alive");
    }
    assert_eq!(ids(&Answer::parse(&bytes).unwrap()), [0]);
    server.shutdown().await;
    stream.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.ends_with(b"0\r\n\r\n"), "the stream is ended as HTTP says, not cut");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens there any more");
}

#[tokio::test]
async fn slow_clients_are_cut() {
    let limits = Limits { head: SHORT, body: SHORT, ..Limits::default() };
    let (_temp, _api, server) = start(limited(limits)).await;
    let address = server.address();
    for head in ["", "GET", "GET /api/health HTTP/1.1\r\nHost: 127"] {
        let answer = send_raw(address, head).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{head:?} is no request");
    }
    for (headers, body) in [
        ("Content-Length: 9\r\n", "{"),
        ("Content-Length: 9\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n"),
    ] {
        let line = "POST /api/finetune/validate_task";
        let answer = send(address, request(address, line, headers, body)).await;
        assert_eq!(answer.status, 408, "{headers} {body}: {answer:?}");
    }
    // One that asks nothing more is let go too, so that it holds no place.
    let idle = format!("GET /api/health HTTP/1.1\r\nHost: {address}\r\n\r\n");
    assert_eq!(send(address, idle).await.status, 200);
}

#[tokio::test]
async fn more_clients_than_places_take_turns() {
    let limits = Limits { connections: 2, head: SHORT, ..Limits::default() };
    let (_temp, _api, server) = start(limited(limits)).await;
    let address = server.address();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(
        get(address, "/api/health").await.status,
        200,
        "clients that say nothing hold a place for a while only"
    );
}

#[tokio::test]
async fn what_is_no_http_harms_nobody() {
    let (_temp, _api, server) = start(options()).await;
    let address = server.address();
    let long = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let answer = send_raw(address, bytes).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&answer));
    }
    let both = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n";
    let smuggled =
        send_raw(address, request(address, "POST /api/health", both, "0\r\n\r\nGET / HTTP/1.1\r\n\r\n"))
            .await;
    let answers = String::from_utf8_lossy(&smuggled).matches("HTTP/1.1 ").count();
    assert!(answers <= 1, "a request has one length only: {answers} answers");
    assert_eq!(get(address, "/api/health").await.status, 200);
}
