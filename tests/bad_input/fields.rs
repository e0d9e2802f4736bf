//! Every operation with every kind of wrong value for each of its fields, made from the table of operations.

use std::iter;

use api::{Method, OPERATIONS, Operation, Place};
use serde_json::{Value, json};
use types::field::{Ends, Fallback, Field, Kind, MAX_LONG_TEXT, MAX_TEXT};

use crate::{
    raw::{send, send_with, snapshot},
    support::Server,
};

/// The longest message about one field: what a request says is not echoed at any length.
const LONGEST_MESSAGE: usize = 2000;

#[tokio::test]
async fn every_field_of_every_operation_refuses_what_it_does_not_take() {
    let server = Server::start();
    let before = snapshot(&server.home);
    let mut checked = 0;
    for operation in OPERATIONS {
        for field in operation.fields {
            for bad in wrong_values(field, operation.place(field.name)) {
                check(&server, operation, field.name, &bad);
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "the table gives many cases: {checked}");
    assert_unchanged(&server, &before).await;
}

#[tokio::test]
async fn missing_and_unknown_fields_are_named() {
    let server = Server::start();
    let before = snapshot(&server.home);
    for operation in OPERATIONS {
        let place = match operation.method {
            Method::Get | Method::Delete => "query",
            Method::Post | Method::Put => "body",
        };
        let required = |field: &&Field| {
            field.default == Fallback::Required && operation.place(field.name) != Place::Path
        };
        let required: Vec<&Field> = operation.fields.iter().filter(required).collect();
        if !required.is_empty() {
            let answer = ask(&server, operation, "", "{}");
            for field in required {
                assert_names(operation, &answer, &[place, field.name], "missing", "");
            }
        }
        let misspelt = operation
            .fields
            .iter()
            .map(|field| (format!("{}x", field.name), format!("Did you mean `{}`?", field.name)));
        let unrelated = ("completely_unrelated_and_long".to_owned(), String::new());
        for (name, hint) in misspelt.chain(iter::once(unrelated)) {
            let answer = ask(&server, operation, &format!("{name}=1"), &json!({&*name: 1}).to_string());
            assert_names(operation, &answer, &[place, &name], "extra_forbidden", &hint);
        }
        let enormous = "x".repeat(20_000);
        let (status, answer) =
            ask(&server, operation, &format!("{enormous}=1"), &json!({&*enormous: 1}).to_string());
        assert_eq!(status, 400, "{}: an unknown field with an enormous name", operation.name);
        assert!(answer.to_string().len() < 10_000, "{}: an enormous name is not echoed", operation.name);
    }
    assert_unchanged(&server, &before).await;
}

#[tokio::test]
async fn a_body_that_is_no_object_of_fields_is_refused() {
    let server = Server::start();
    let before = snapshot(&server.home);
    let deep = |open: &str| format!("{{\"x\": {}", open.repeat(100_000)).into_bytes();
    let bodies: Vec<Vec<u8>> = [
        &b"[]"[..],
        b"[{}]",
        b"\"text\"",
        b"5",
        b"null",
        b"true",
        b"{",
        b"}",
        b"nonsense",
        b"{'a': 1}",
        b"{\"a\": 1,}",
        b"{\"a\": NaN}",
        b"{\"a\": Infinity}",
        b"{\"a\": 1e999}",
        b"{\"a\": 01}",
        b"{\"a\": 1}{\"b\": 2}",
        b"{1: 2}",
        b"{\"a\": \"\xff\xfe\"}",
        b"{\"\xc3\x28\": 1}",
        b"{\"a\": \"\\ud800\"}",
        b"{\"a\": \"\x01\"}",
        b"\xef\xbb\xbf{}",
        b"\0",
        b"a=1&b=2",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .chain([deep("["), deep("{\"x\":")])
    .collect();
    for operation in OPERATIONS.iter().filter(|o| matches!(o.method, Method::Post | Method::Put)) {
        for body in &bodies {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]);
            let answer = send(&server, operation.method.name(), &target(operation, None, ""), Some(body));
            assert_names(operation, &answer, &["body"], "json_invalid", &shown[..0]);
        }
        let answer = ask(&server, operation, "", r#"{"zebra": 1, "zebra": 2}"#);
        assert_names(operation, &answer, &["body", "zebra"], "value_error", "twice");
        let answer = send(&server, operation.method.name(), &target(operation, None, "zebra=1"), Some(b"{}"));
        assert_names(operation, &answer, &["query", "zebra"], "extra_forbidden", "");

        let headers = "Content-Type: application/json\r\nContent-Length: 5000000\r\n";
        let (status, answer) =
            send_with(&server, operation.method.name(), &target(operation, None, ""), headers, b"{");
        assert_eq!((status, answer["detail"].is_string()), (413, true), "{}: 5 MB: {answer}", operation.name);
        let headers = "Content-Type: text/plain\r\nContent-Length: 2\r\n";
        let (status, answer) =
            send_with(&server, operation.method.name(), &target(operation, None, ""), headers, b"{}");
        assert_eq!(
            (status, answer["detail"].is_string()),
            (415, true),
            "{}: text/plain: {answer}",
            operation.name
        );
    }
    assert_unchanged(&server, &before).await;
}

#[tokio::test]
async fn what_is_not_utf8_in_a_path_or_a_query_is_refused() {
    let server = Server::start();
    for operation in OPERATIONS {
        if operation.path.contains('{') {
            let target = operation.path.replace("{task}", "%ff").replace("{", "%fe").replace('}', "");
            let answer = send(&server, operation.method.name(), &target, None);
            assert_names(operation, &answer, &["path"], "value_error", "UTF-8");
        }
        for query in ["%ff=1", "a=%c3%28"] {
            let answer = send(&server, operation.method.name(), &target(operation, None, query), None);
            assert_names(operation, &answer, &["query"], "value_error", "UTF-8");
        }
        if matches!(operation.method, Method::Get | Method::Delete) {
            let answer = ask(&server, operation, "zebra=1&zebra=2", "");
            assert_names(operation, &answer, &["query", "zebra"], "value_error", "twice");
        }
    }
}

/// Values that the field must refuse, as they stand in a request: JSON in a body, encoded text elsewhere.
fn wrong_values(field: &Field, place: Place) -> Vec<String> {
    if place != Place::Body {
        return wrong_texts(field, place);
    }
    let text = |text: &str| json!(text).to_string();
    let mut bad: Vec<String> = match field.kind {
        Kind::Text | Kind::LongText => {
            let most = if matches!(field.kind, Kind::Text) { MAX_TEXT } else { MAX_LONG_TEXT };
            let values = [text(""), text(" \t\n"), text("a\0b"), text(&"x".repeat(most + 1))];
            values.into_iter().chain(["5", "[\"x\"]", "true", "{}"].map(str::to_owned)).collect()
        }
        Kind::Choice { .. } => {
            let values = [text(""), text("nonsense"), text("sft\0"), text(&"x".repeat(MAX_TEXT + 1))];
            values.into_iter().chain(["5", "[]", "false", "{}"].map(str::to_owned)).collect()
        }
        Kind::TextList => ["\"q_proj\"", "[]", "[1]", "[\"\"]", "[\"a\\u0000\"]", "[null]", "{}", "5"]
            .into_iter()
            .map(str::to_owned)
            .chain([json!(["x".repeat(MAX_TEXT + 1)]).to_string()])
            .collect(),
        Kind::Bool => ["\"true\"", "\"\"", "1", "0", "[]", "{}"].map(str::to_owned).to_vec(),
        Kind::Int { min, max } => {
            let fixed =
                ["\"5\"", "1.5", "true", "[]", "{}", "1e300", "-1e300", "123456789012345678901234567890"];
            let near = [min.checked_sub(1), max.checked_add(1)].into_iter().flatten().map(|n| n.to_string());
            fixed.into_iter().map(str::to_owned).chain(near).collect()
        }
        Kind::Float { min, max, ends } => {
            let fixed = ["\"0.5\"", "true", "[]", "{}"].into_iter().map(str::to_owned);
            let below = Some(if ends == Ends::Upper { min } else { min - 1.0 });
            let above = (max < f64::MAX).then_some(if ends == Ends::Lower { max } else { max + 1.0 });
            fixed.chain([below, above].into_iter().flatten().map(|x| json!(x).to_string())).collect()
        }
        Kind::Json { .. } => {
            ["5", "true", "\"x\"", "{\"no_such\": 1}", "[{\"role\": \"king\", \"content\": \"x\"}]"]
                .map(str::to_owned)
                .to_vec()
        }
    };
    if !field.nullable() {
        bad.push("null".into());
    }
    bad
}

/// The same for a path or a query, where everything is text.
fn wrong_texts(field: &Field, place: Place) -> Vec<String> {
    let mut bad: Vec<String> = ["%20", "%09", "a%00b"].map(str::to_owned).to_vec();
    bad.push("x".repeat(MAX_TEXT + 1));
    // A path without its last part is another route.
    bad.extend((place == Place::Query).then(String::new));
    match field.kind {
        Kind::Choice { .. } => bad.push("nonsense".into()),
        Kind::Bool => bad.extend(["yes".into(), "1".into()]),
        Kind::Int { min, .. } => {
            bad.extend(["x", "1.5", "99999999999999999999", "null", "NaN"].map(str::to_owned));
            bad.extend(min.checked_sub(1).map(|n| n.to_string()));
        }
        Kind::Float { .. } => bad.extend(["x".into(), "1,5".into()]),
        Kind::Text | Kind::LongText | Kind::TextList | Kind::Json { .. } => {}
    }
    bad
}

fn check(server: &Server, operation: &'static Operation, name: &str, bad: &str) {
    let place = operation.place(name);
    let answer = match place {
        Place::Path => send(server, operation.method.name(), &target(operation, Some((name, bad)), ""), None),
        Place::Query => ask(server, operation, &format!("{name}={bad}"), ""),
        Place::Body => ask(server, operation, "", &format!("{{\"{name}\": {bad}}}")),
    };
    let shown: String = bad.chars().take(40).collect();
    let kinds = ["value_error", "type_error"];
    let entries = entries(operation, &answer, &shown);
    let entry = entries.iter().find(|entry| entry["loc"] == json!([place.name(), name]));
    let entry =
        entry.unwrap_or_else(|| panic!("{}: {name} = {shown} is not named: {entries:?}", operation.name));
    let kind = entry["type"].as_str().unwrap();
    assert!(kinds.contains(&kind), "{}: {name} = {shown}: {entry}", operation.name);
}

/// A request with these fields, in the query or in the body as the operation takes them.
fn ask(server: &Server, operation: &Operation, query: &str, body: &str) -> (u16, Value) {
    match operation.method {
        Method::Get | Method::Delete => {
            send(server, operation.method.name(), &target(operation, None, query), None)
        }
        Method::Post | Method::Put => {
            send(server, operation.method.name(), &target(operation, None, ""), Some(body.as_bytes()))
        }
    }
}

/// The operation's route, one field of it given and the others with a value that is no id.
fn target(operation: &Operation, given: Option<(&str, &str)>, query: &str) -> String {
    let mut path = operation.path.to_owned();
    for field in operation.fields {
        let value = given.filter(|(name, _)| *name == field.name).map_or("none", |(_, value)| value);
        path = path.replace(&format!("{{{}}}", field.name), value);
    }
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn assert_names(operation: &Operation, answer: &(u16, Value), loc: &[&str], kind: &str, says: &str) {
    let entries = entries(operation, answer, says);
    let entry = entries.iter().find(|entry| entry["loc"] == json!(loc));
    let entry = entry.unwrap_or_else(|| panic!("{}: {loc:?} is not named: {entries:?}", operation.name));
    assert_eq!(entry["type"], kind, "{}: {entry}", operation.name);
    assert!(entry["msg"].as_str().unwrap().contains(says), "{}: {entry} says {says}", operation.name);
}

/// The documented list of a refusal.
fn entries<'a>(operation: &Operation, (status, answer): &'a (u16, Value), what: &str) -> &'a Vec<Value> {
    assert_eq!(*status, 400, "{}: {what}: {answer}", operation.name);
    let entries = answer["detail"].as_array();
    let entries =
        entries.unwrap_or_else(|| panic!("{}: {what}: no list of fields: {answer}", operation.name));
    for entry in entries {
        assert_eq!(crate::support::keys(entry), ["loc", "msg", "type"], "{}: {what}", operation.name);
        let length = entry["msg"].as_str().unwrap().len();
        assert!((1..LONGEST_MESSAGE).contains(&length), "{}: {what}: a message of {length}", operation.name);
    }
    entries
}

async fn assert_unchanged(server: &Server, before: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>) {
    let after = snapshot(&server.home);
    let names = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        files.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&after), names(before), "refused requests make and delete no file");
    assert!(after == *before, "refused requests change no file");
    assert_eq!(server.get("/api/health").await.0, 200, "the server still answers");
}
