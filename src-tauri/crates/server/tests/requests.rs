//! What requests are read as, and what bad ones get.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

mod common;

use common::{get, options, post, request, send, start};
use serde_json::json;
use server::Limits;

#[tokio::test]
async fn every_operation_answers_at_its_route_with_and_without_a_slash_at_the_end() {
    let (_temp, _api, server) = start(options()).await;
    let address = server.address();
    for operation in api::OPERATIONS {
        let path = operation.path.replace(['{', '}'], "x");
        let path = path.trim_end_matches('/');
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = send(address, request(address, &format!("PATCH {path}"), "", "")).await;
            assert_eq!(answer.status, 405, "{}: {path} is a route", operation.name);
            assert_eq!(answer.json(), json!({"detail": "Method Not Allowed"}));
            let allowed = answer.header("allow").unwrap();
            assert!(allowed.split(',').any(|m| m.trim() == operation.method.name()), "{path}: {allowed}");
        }
    }
    assert_eq!(get(address, "/api/models").await.json(), json!([]));
    assert_eq!(get(address, "/api/models/").await.json(), json!([]));
}

#[tokio::test]
async fn the_fields_of_a_request_come_from_path_query_and_body() {
    let (_temp, _api, server) = start(options()).await;
    let address = server.address();
    let task = "/api/finetune/validate_task";
    let model = "/api/playground/model_path";
    let field = |answer: &common::Answer| answer.json()["detail"][0].clone();
    assert_eq!(
        post(address, task, br#"{"task": "text-generation"}"#).await.json(),
        json!({"valid": true, "task": "text-generation"})
    );
    for (rule, body, kind, loc) in [
        ("no body is an empty one", &b""[..], "missing", json!(["body", "task"])),
        ("a missing field", b"{}", "missing", json!(["body", "task"])),
        (
            "an unknown field",
            br#"{"task": "summarization", "x": 1}"#,
            "extra_forbidden",
            json!(["body", "x"]),
        ),
        ("a wrong type", br#"{"task": 1}"#, "type_error", json!(["body", "task"])),
        ("twice", br#"{"task": "x", "task": "summarization"}"#, "value_error", json!(["body", "task"])),
        ("half of it", br#"{"task": "#, "json_invalid", json!(["body"])),
        ("no object", b"[1]", "json_invalid", json!(["body"])),
        ("more than one", b"{} {}", "json_invalid", json!(["body"])),
        ("no UTF-8", b"{\"task\": \"\xff\"}", "json_invalid", json!(["body"])),
        ("half a character", br#"{"task": "\ud800"}"#, "json_invalid", json!(["body"])),
        ("no number of JSON", br#"{"task": NaN}"#, "json_invalid", json!(["body"])),
    ] {
        let answer = post(address, task, body).await;
        assert_eq!(answer.status, 400, "{rule}: {answer:?}");
        assert_eq!((&field(&answer)["type"], &field(&answer)["loc"]), (&json!(kind), &loc), "{rule}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(post(address, task, deep.as_bytes()).await.status, 400, "nesting without end is refused");
    for (rule, path, status, loc) in [
        ("decoded", format!("{model}?model_id=a+b%20c"), 404, json!(null)),
        ("missing", model.to_owned(), 400, json!(["query", "model_id"])),
        ("blank", format!("{model}?model_id="), 400, json!(["query", "model_id"])),
        ("twice", format!("{model}?model_id=a&model_id=a"), 400, json!(["query", "model_id"])),
        ("unknown", format!("{model}?model_id=a&x=1"), 400, json!(["query", "x"])),
        ("no UTF-8", format!("{model}?model_id=%ff"), 400, json!(["query"])),
        ("NUL", format!("{model}?model_id=a%00"), 400, json!(["query", "model_id"])),
        ("no UTF-8 in the path", "/api/models/%ff".to_owned(), 400, json!(["path"])),
        ("in the path already", "/api/models/a?model_id=a".to_owned(), 400, json!(["query", "model_id"])),
        ("not a number", "/api/runs/train_1/events?after=x".to_owned(), 400, json!(["query", "after"])),
    ] {
        let answer = get(address, &path).await;
        assert_eq!(answer.status, status, "{rule}: {answer:?}");
        if status == 400 {
            assert_eq!(field(&answer)["loc"], loc, "{rule}: {answer:?}");
        }
    }
    let answer = post(address, &format!("{task}?task=summarization"), b"").await;
    assert_eq!(
        (answer.status, &field(&answer)["loc"]),
        (400, &json!(["query", "task"])),
        "no field is ignored"
    );
    let answer = post(address, "/api/runs/train_1/pause", br#"{"job_id": "train_2"}"#).await;
    assert_eq!((answer.status, &field(&answer)["loc"]), (400, &json!(["body", "job_id"])), "said twice");
}

#[tokio::test]
async fn a_body_is_json_and_not_too_large() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let (_temp, _api, server) = start(server::ServeOptions { limits, ..options() }).await;
    let address = server.address();
    let body = r#"{"task": "summarization"}"#;
    for (kind, status) in [
        ("Content-Type: application/json\r\n", 200),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", 200),
        ("", 200),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: application/json-seq\r\n", 415),
        ("Content-Type: application/json\r\nContent-Type: text/plain\r\n", 415),
    ] {
        let headers = format!("{kind}Content-Length: {}\r\n", body.len());
        let answer =
            send(address, request(address, "POST /api/finetune/validate_task", &headers, body)).await;
        assert_eq!(answer.status, status, "{kind}: {answer:?}");
        assert!(status == 200 || answer.json()["detail"].is_string());
    }
    for (rule, headers, body) in [
        ("told", "Content-Length: 1001\r\n", String::new()),
        ("in pieces", "Transfer-Encoding: chunked\r\n", format!("3e9\r\n{}\r\n0\r\n\r\n", " ".repeat(1001))),
    ] {
        let answer =
            send(address, request(address, "POST /api/finetune/validate_task", headers, &body)).await;
        assert_eq!(answer.status, 413, "{rule}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("1000"), "the limit is named");
    }
}

#[tokio::test]
async fn nothing_but_what_is_listed_is_served() {
    let (temp, api, server) = start(options()).await;
    let address = server.address();
    let secret = api.store().home().path().join("secret.txt");
    types::files::write(&secret, b"secret").unwrap();
    for path in [
        "/nowhere",
        "/api",
        "/api/",
        "/api/nowhere",
        "/API/health",
        "/api/docs/nowhere.js",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/api/docs/../../../etc/passwd",
        "/api/docs/..%2f..%2fCargo.toml",
        "/..\\..\\etc\\passwd",
        "/index.html%00.js",
        "/%ff",
        "/api/models/..%2f..%2fsecret.txt",
        "/api/models/%2e%2e",
        "/api/runs/..%2fsecret.txt/events",
        &format!("/{}", secret.display()),
        &secret.display().to_string(),
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.json()["detail"].is_string(), "{path}: an error is JSON");
        assert!(!answer.text().contains("root:") && !answer.text().contains("secret\n"), "{path}");
    }
    drop(temp);
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_other_pages_out() {
    let (_temp, _api, server) = start(options()).await;
    let address = server.address();
    for (path, kind) in [
        ("/api/health", "application/json"),
        ("/api/openapi.json", "application/json"),
        ("/api/docs", "text/html; charset=utf-8"),
        ("/api/docs/", "text/html; charset=utf-8"),
        ("/api/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/api/docs/docs.css", "text/css; charset=utf-8"),
        ("/nowhere", "application/json"),
    ] {
        let full = get(address, path).await;
        let head = send(address, request(address, &format!("HEAD {path}"), "", "")).await;
        for answer in [&full, &head] {
            assert_eq!(answer.header("content-type"), Some(kind), "{path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
            assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        }
        assert_eq!(full.status, head.status, "{path}: HEAD answers as GET does");
        assert!(head.body.is_empty(), "{path}: but without a body");
    }
    let answer = send(address, request(address, "POST /api/docs", "", "")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")));
    let page = get(address, "/api/docs").await.text();
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs nothing from elsewhere");
    let root = get(address, "/").await;
    assert!(
        root.status == 200 || root.header("location") == Some("/api/docs"),
        "the root is the user interface, or leads to the documentation where there is none: {root:?}"
    );
}
