//! Names that try to be paths, and datasets that are no files. Nothing hangs, and nothing outside of the data folder is
//! touched.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use types::files;

use crate::{
    raw::{detail, send, snapshot},
    support::{Server, small_run},
};

/// Ids that would lead out of their folder, as they stand in a path or a query.
const ENCODED: &[&str] = &[
    "..",
    "%2e%2e",
    "%2E%2E%2F",
    "..%2Fx",
    "%2e%2e%2f%2e%2e%2fcanary",
    "%252e%252e%252f",
    "..%5C..%5Cx",
    "%2Fetc%2Fpasswd",
    "%2Fdev%2Fzero",
    "C:%5Cx",
    "model_..%2F..",
    "train_..%2F..",
    "chat_..%2F..",
    "model_..%5C..",
    "model_1%2F..%2F..",
    "model_",
    "model_1%00",
    "train_1%0a",
    "model_20240101_000000%20",
    "%2e",
    "~",
    "sample:x",
    "con",
    "model_20240101_000000.",
    "model_%EF%BC%8E%EF%BC%8E",
    ".deleted-model_1",
    "start.lock",
];

/// The same for JSON.
const TRICKS: &[&str] = &[
    "../x",
    "../../canary",
    "..",
    ".",
    "/",
    "/etc",
    "/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "%2e%2e%2f",
    "..\\..\\x",
    "\\\\server\\share",
    "C:\\x",
    "~/x",
    "file:///etc/passwd",
    "model_../..",
    "model_1/../..",
    "owner/..",
    "../owner",
    "owner/name/more",
    "-owner/name",
    "owner//name",
    "owner/na me",
    "owner/n\u{202e}ame",
    "ówner/name",
    "\u{1f600}",
];

#[tokio::test]
async fn ids_lead_nowhere_but_to_their_folder() {
    let (server, outside) = guarded();
    let before = snapshot(&outside);
    for trick in ENCODED {
        for (method, target) in [
            ("GET", format!("/api/models/{trick}")),
            ("DELETE", format!("/api/models/{trick}")),
            ("GET", format!("/api/playground/model_path?model_id={trick}")),
            ("GET", format!("/api/runs/{trick}")),
            ("DELETE", format!("/api/runs/{trick}")),
            ("GET", format!("/api/runs/{trick}/history")),
            ("GET", format!("/api/runs/{trick}/events")),
            ("POST", format!("/api/runs/{trick}/pause")),
            ("POST", format!("/api/runs/{trick}/resume")),
            ("POST", format!("/api/runs/{trick}/stop")),
            ("GET", format!("/api/conversations/{trick}")),
            ("DELETE", format!("/api/conversations/{trick}")),
            ("GET", format!("/api/models/task/{trick}")),
            ("GET", format!("/api/finetune/catalogue/{trick}")),
        ] {
            let (status, answer) = send(&server, method, &target, (method == "POST").then_some(b"{}"));
            assert!(matches!(status, 400 | 404), "{method} {target}: {status} {answer}");
            assert!(!answer["detail"].is_null(), "{method} {target}: a refusal has a detail: {answer}");
        }
    }
    for target in [
        "/../../etc/passwd",
        "/api/../../canary",
        "/api/models/../../../canary",
        "//etc/passwd",
        "/%2e%2e/canary",
    ] {
        let (status, answer) = send(&server, "GET", target, None);
        assert!(
            matches!(status, 400 | 404) && !answer.to_string().contains("root:"),
            "{target}: {status} {answer}"
        );
    }
    unchanged(&outside, &before);
}

#[tokio::test]
async fn names_of_models_and_repositories_lead_nowhere() {
    let (server, outside) = guarded();
    let before = snapshot(&outside);
    let dataset = server.home.with_extension("rows.jsonl");
    for trick in TRICKS {
        for (path, body, allowed) in [
            ("/api/finetune/validate_model", json!({"selected_model": trick}), &[400, 403][..]),
            ("/api/finetune/validate_custom_model", json!({"repo_name": trick}), &[400]),
            ("/api/finetune/set_custom_model", json!({"repo_name": trick}), &[400]),
            ("/api/finetune/start_training", small_run(&dataset, json!({"model_name": trick})), &[400, 403]),
            ("/api/finetune/estimate", small_run(&dataset, json!({"model_name": trick})), &[400, 403]),
            ("/api/finetune/dry_run", small_run(&dataset, json!({"model_name": trick})), &[400, 403]),
            ("/api/datasets/preview", json!({"dataset": dataset, "model_name": trick}), &[400, 403]),
            ("/api/playground/new", json!({"model_id": trick, "prompt": "x"}), &[400, 403, 404]),
            ("/api/hub/push", json!({"model_id": trick, "repo_name": "me/x"}), &[404]),
        ] {
            let (status, answer) = server.post(path, body).await;
            assert!(allowed.contains(&status), "{path} {trick:?}: {status} {answer}");
            if path.ends_with("custom_model") {
                assert_eq!(answer["detail"][0]["loc"], json!(["body", "repo_name"]), "{trick:?}: {answer}");
            }
        }
    }
    let message = json!([{"role": "user", "content": "x"}]);
    for trick in TRICKS {
        let body = json!({"id": trick, "model": "m", "messages": message});
        let (status, answer) = server.put("/api/conversations", body).await;
        assert_eq!(status, 404, "an id that no conversation has: {trick:?}: {answer}");
    }
    let session = server.get("/api/finetune/session").await.1;
    assert_eq!(session["selected_model"], Value::Null, "what is refused is not kept: {session}");
    unchanged(&outside, &before);
}

#[tokio::test]
async fn a_repository_to_push_to_must_have_a_repositorys_name() {
    let server = Server::start();
    let id = server.trained_model().await;
    for trick in TRICKS {
        let (status, answer) =
            server.post("/api/hub/push", json!({"model_id": id, "repo_name": trick})).await;
        assert_eq!(status, 400, "{trick:?}: {answer}");
    }
    assert_eq!(server.get(&format!("/api/models/{id}")).await.0, 200, "the model stays");
}

#[tokio::test]
#[cfg(unix)]
async fn a_dataset_must_be_a_file_that_can_be_read() {
    use std::os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    };

    let (server, outside) = guarded();
    let good = server.home.with_extension("rows.jsonl");
    let at = |name: &str| outside.join(name);
    assert!(Command::new("mkfifo").arg(at("pipe.jsonl")).status().unwrap().success());
    symlink(at("pipe.jsonl"), at("link-to-pipe.jsonl")).unwrap();
    symlink(at("loop-b.jsonl"), at("loop-a.jsonl")).unwrap();
    symlink(at("loop-a.jsonl"), at("loop-b.jsonl")).unwrap();
    symlink("/dev/zero", at("link-to-zero.jsonl")).unwrap();
    fs::create_dir(at("folder.jsonl")).unwrap();
    files::write(&at("empty.jsonl"), b"").unwrap();
    files::write(&at("secret.jsonl"), &fs::read(&good).unwrap()).unwrap();
    fs::set_permissions(at("secret.jsonl"), fs::Permissions::from_mode(0o000)).unwrap();
    let _socket = UnixListener::bind(at("socket.jsonl")).unwrap();

    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let mut cases: Vec<(String, &str)> = vec![
        (text(at("pipe.jsonl")), "pipe or a device"),
        (text(at("link-to-pipe.jsonl")), "pipe or a device"),
        (text(at("link-to-zero.jsonl")), "pipe or a device"),
        (text(at("socket.jsonl")), "pipe or a device"),
        ("/dev/zero".into(), "pipe or a device"),
        ("/dev/stdin".into(), "pipe or a device"),
        ("/dev/null".into(), "pipe or a device"),
        (text(at("folder.jsonl")), "folder"),
        ("/".into(), "folder"),
        ("..".into(), "folder"),
        (text(at("loop-a.jsonl")), "loop-a.jsonl"),
        (text(at("empty.jsonl")), "empty"),
        (text(at("no-such.jsonl")), "File not found"),
        ("../../no-such/x".into(), "File not found"),
        ("..\\..\\no-such".into(), "File not found"),
        ("file:///etc/passwd".into(), "File not found"),
        ("~/no-such.jsonl".into(), "File not found"),
        ("%2e%2e%2fcanary".into(), "File not found"),
        ("/etc/passwd".into(), "format is not known"),
        (format!("{}/rows.jsonl", text(good.clone())), "rows.jsonl"),
        (format!("/{}", "x".repeat(4000)), "xxx"),
        ("sample:../canary".into(), "There is no sample"),
        ("sample:".into(), "There is no sample"),
    ];
    // The system lets its administrator read what nobody may read.
    if fs::File::open(at("secret.jsonl")).is_err() {
        cases.push((text(at("secret.jsonl")), "secret.jsonl"));
    }
    let before = snapshot(&outside);
    for (dataset, says) in &cases {
        for (path, body) in [
            ("/api/datasets/check", json!({"dataset": dataset})),
            ("/api/datasets/preview", json!({"dataset": dataset})),
            ("/api/datasets/preview", json!({"dataset": dataset, "task": "text-generation"})),
            ("/api/finetune/start_training", small_run(Path::new(dataset), json!({}))),
            ("/api/finetune/start_training", small_run(&good, json!({"eval_dataset": dataset}))),
            ("/api/finetune/estimate", small_run(Path::new(dataset), json!({}))),
            ("/api/finetune/dry_run", small_run(Path::new(dataset), json!({}))),
        ] {
            let (status, answer) = server.post(path, body).await;
            assert_eq!(status, 400, "{path} {dataset}: {answer}");
            assert!(detail(&answer).contains(says), "{path} {dataset} says {says}: {answer}");
        }
    }
    unchanged(&outside, &before);
}

/// A server whose data folder lies in a folder that nothing else may change in, and a good dataset there.
fn guarded() -> (Server, PathBuf) {
    let server = Server::start();
    let outside = server.home.parent().unwrap().to_owned();
    let row = json!({"input": "What is box 1?", "output": "Blue."}).to_string();
    files::write(&server.home.with_extension("rows.jsonl"), row.as_bytes()).unwrap();
    fs::create_dir(outside.join("canary")).unwrap();
    files::write(&outside.join("canary/modelforge.json"), b"{}").unwrap();
    files::write(&outside.join("canary/run.json"), b"{}").unwrap();
    (server, outside)
}

fn unchanged(outside: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let ours = |path: &PathBuf| !path.to_string_lossy().contains("modelforge.db");
    let of = |files: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        files
            .iter()
            .filter(|(path, _)| ours(path))
            .map(|(path, content)| (path.clone(), content.clone()))
            .collect()
    };
    let (before, after) = (of(before), of(&snapshot(outside)));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "no file comes or goes");
    assert!(after == before, "no file is changed");
}
