//! A request gets one answer, whoever is asked: the operation itself, its Tauri command, or its route over HTTP.
//!
//! Every host works on a data folder of its own with the same content, so that what one answer leaves behind shows in the
//! next. Nothing here starts an engine or reaches the network: the app is offline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "what cannot be set up ends the test"
)]

mod hosts;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use api::{Api, Local, OPERATIONS, Operation, Place};
use serde_json::{Map, Value, json};
use store::{Home, Resources, STARTER, Store};
use types::{TrainingConfig, field::Kind, files};

use hosts::{Answer, Host, Itself, Rest, Window};

const JOB: &str = "train_20260102_030405";
const MODEL: &str = "model_20260102_030405";

/// What stands in a request for the host's own folder, and for the conversation it kept last.
const FOLDER: &str = "<folder>";
const CONVERSATION: &str = "<conversation>";

/// What changes by itself between two requests; only its type is compared.
const CHANGING: &[&str] = &[
    "available_diskspace_gb",
    "cache_bytes",
    "cached",
    "cards",
    "checked_at",
    "cpu_percent",
    "created_at",
    "database_bytes",
    "disk_space_gb",
    "gpus",
    "memory_used_bytes",
    "started_at",
    "updated_at",
];

/// The app with one finished run, its model, and a dataset of two rows in which one is bad.
fn app(folder: &Path) -> Arc<Api> {
    let store = Store::open(Home::at(&folder.join("home")).unwrap()).unwrap();
    let rows = b"{\"input\": \"a\", \"output\": \"b\"}\n{\"input\": \"c\"}\n";
    files::write(&folder.join("rows.jsonl"), rows).unwrap();
    let request =
        json!({"task": "text-generation", "model_name": STARTER, "dataset": "rows.jsonl", "name": "mine"});
    let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();

    let job = store.home().run(JOB).unwrap();
    fs::create_dir_all(job.path()).unwrap();
    let spec = json!({
        "version": 1, "job_id": JOB, "model_id": MODEL, "config": config, "base_dir": "/starter",
        "dataset_path": "/rows.jsonl", "model_dir": "/model", "created_at": "2026-01-02T03:04:05Z",
    });
    files::write_json(&job.run_json(), &spec).unwrap();
    files::write(&job.events(), events().as_bytes()).unwrap();

    let model = store.home().model(MODEL).unwrap();
    fs::create_dir_all(model.path()).unwrap();
    let manifest = json!({
        "version": 1, "model_id": MODEL, "name": "mine", "job_id": JOB, "created_at": "2026-01-02T03:05:00Z",
        "base_model": {"name": STARTER, "path": "/starter", "files": []},
        "dataset": {"name": "rows.jsonl", "path": "/rows.jsonl", "sha256": "", "train_rows": 1, "eval_rows": 0},
        "config": config, "seed": 42, "versions": {}, "metrics": {"final_loss": 0.5}, "steps": 1, "tokens": 1,
        "seconds": 1.0, "files": [],
    });
    files::write_json(&model.manifest(), &manifest).unwrap();

    let export = store.home().exports().join("mine");
    fs::create_dir_all(&export).unwrap();
    files::write(&export.join("model.gguf"), b"GGUF").unwrap();

    let resources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources");
    Arc::new(Api::new(store, Resources::at(resources), Box::new(Local::new("no-such-program"))))
}

/// The log of a run that came to its end, with an event longer than Tauri sends at one go.
fn events() -> String {
    let told = [
        json!({"event": "started", "job_id": JOB, "pid": 1, "version": "0", "resumed_from": null}),
        json!({"event": "phase", "phase": "training"}),
        json!({"event": "warning", "message": "é\u{2028}\n".repeat(5000)}),
        json!({"event": "eval", "step": 1, "metrics": {"eval_loss": 1.25, "perplexity": 3.5}}),
        json!({"event": "finished", "metrics": {}, "result": {"success": true, "model_id": MODEL, "message": "over"}}),
    ];
    let line = |(seq, mut event): (usize, Value)| {
        event["seq"] = json!(seq);
        event["time"] = json!(format!("2026-01-02T03:04:0{seq}Z"));
        format!("{event}\n")
    };
    told.into_iter().enumerate().map(line).collect()
}

/// Requests in their order, good ones and bad ones. What a deletion leaves behind is asked for after it.
fn requests() -> Vec<(&'static str, Value)> {
    let config = json!({"task": "text-generation", "model_name": STARTER, "dataset": "<folder>/rows.jsonl"});
    let with = |changes: Value| {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    };
    let said =
        json!([{"role": "user", "content": "Good morning"}, {"role": "assistant", "content": "Hello"}]);
    vec![
        ("settings_set", json!({"offline": true, "theme": "dark", "language": "pt-BR"})),
        ("settings_set", json!({"hub_endpoint": "ftp://a", "offline": true})),
        ("settings_get", json!({})),
        ("app_info", json!({})),
        ("app_health", json!({})),
        ("hardware_load", json!({})),
        ("hardware_cards", json!({})),
        ("finetune_session", json!({})),
        ("finetune_validate_task", json!({"task": "summarization"})),
        ("finetune_validate_task", json!({"task": "translation"})),
        ("finetune_validate_task", json!({"task": " "})),
        ("finetune_validate_task", json!({"task": "summarization", "taks": 1})),
        ("finetune_validate_model", json!({"selected_model": STARTER})),
        ("finetune_validate_model", json!({"selected_model": "owner/no-such-model"})),
        ("finetune_validate_model", json!({"selected_model": "<folder>"})),
        ("finetune_validate_custom_model", json!({"repo_name": "owner/no-such-model"})),
        ("finetune_validate_custom_model", json!({"repo_name": "../../etc/passwd"})),
        ("finetune_set_custom_model", json!({"repo_name": "owner/no-such-model"})),
        ("finetune_detect", json!({"task": "text-generation"})),
        ("finetune_set_model", json!({"selected_model": STARTER})),
        ("finetune_session", json!({})),
        ("finetune_load_settings", json!({})),
        ("finetune_config_schema", json!({})),
        ("finetune_hardware_specs", json!({})),
        ("finetune_recommended_models", json!({"task": "text-generation"})),
        ("finetune_recommended_models", json!({"task": "a/b?c=d#e %2e%2e"})),
        ("finetune_catalogue", json!({"task": "summarization"})),
        ("finetune_start_training", with(json!({"lora_r": 0, "lora_rank": 1, "strategy": 7}))),
        ("finetune_start_training", with(json!({"dataset": "<folder>/none.jsonl"}))),
        ("finetune_start_training", with(json!({"model_name": "owner/no-such-model"}))),
        ("finetune_estimate", with(json!({"dataset": "sample:none"}))),
        ("finetune_dry_run", with(json!({"learning_rate": "fast"}))),
        ("finetune_status", json!({})),
        ("finetune_reset_status", json!({})),
        ("models_manifest", json!({"model_id": MODEL})),
        ("runs_list", json!({})),
        ("runs_get", json!({"job_id": JOB})),
        ("runs_get", json!({"job_id": "train_1"})),
        ("runs_get", json!({"job_id": "../models"})),
        ("runs_history", json!({"job_id": JOB})),
        ("runs_history", json!({"job_id": JOB, "after": 1, "limit": 2})),
        ("runs_history", json!({"job_id": JOB, "after": "late", "limit": -1})),
        ("runs_events", json!({"job_id": JOB})),
        ("runs_events", json!({"job_id": JOB, "after": 2})),
        ("runs_events", json!({"job_id": JOB, "after": 4})),
        ("runs_events", json!({"job_id": "train_1"})),
        ("runs_events", json!({"job_id": JOB, "after": "late"})),
        ("runs_curve", json!({"job_id": JOB})),
        ("runs_curve", json!({"job_id": "train_1"})),
        ("queue_get", json!({})),
        ("queue_add", with(json!({"dataset": "<folder>/none.jsonl"}))),
        ("queue_place", json!({"job_id": JOB, "place": 1})),
        ("queue_place", json!({"job_id": JOB, "place": 0})),
        ("queue_hold", json!({"held": true})),
        ("queue_remove", json!({"job_id": JOB})),
        ("runs_pause", json!({"job_id": JOB})),
        ("runs_resume", json!({"job_id": JOB})),
        ("runs_stop", json!({"job_id": JOB})),
        ("runs_stop", json!({"job_id": "train_1", "keep": false})),
        ("models_list", json!({})),
        ("models_get", json!({"model_id": MODEL})),
        ("models_get", json!({"model_id": "model_1"})),
        ("models_origin", json!({"model_id": MODEL})),
        ("models_origin", json!({"model_id": "model_1"})),
        ("models_train_again", json!({"model_id": MODEL})),
        ("models_by_task", json!({"task": "text-generation"})),
        ("models_by_task", json!({"task": "summarization"})),
        ("playground_model_path", json!({"model_id": MODEL})),
        ("playground_model_path", json!({"model_id": "model_1"})),
        ("playground_model_path", json!({})),
        ("playground_status", json!({})),
        ("playground_new", json!({"model_id": "model_1", "prompt": "a"})),
        (
            "playground_new",
            json!({"model_id": MODEL, "prompt": "", "temperature": -1, "top_p": 2, "max_length": 0}),
        ),
        ("playground_stream", json!({"model_id": "model_1", "messages": said})),
        ("playground_stream", json!({"model_id": STARTER, "messages": said})),
        ("playground_stream", json!({"model_id": STARTER, "messages": [{"role": "nobody"}]})),
        ("playground_cancel", json!({})),
        ("playground_unload", json!({})),
        ("hub_push", json!({"model_id": "model_1", "repo_name": "owner/mine"})),
        ("hub_set_token", json!({"token": "", "allow_file": "yes"})),
        ("hub_upload", json!({"model_id": "model_1", "repo_name": "owner/mine"})),
        ("hub_upload", json!({"model_id": MODEL, "repo_name": "mine"})),
        ("hub_token_places", json!({})),
        ("hub_whoami", json!({})),
        ("datasets_check", json!({"dataset": "<folder>/rows.jsonl"})),
        ("datasets_check", json!({"dataset": "<folder>/rows.jsonl", "strategy": "dpo", "errors": 0})),
        ("datasets_check", json!({"dataset": "<folder>/none.jsonl"})),
        ("datasets_preview", json!({"dataset": "sample:order-slips", "rows": 2})),
        ("datasets_preview", json!({"dataset": "<folder>/rows.jsonl", "rows": 101})),
        ("datasets_list", json!({})),
        ("datasets_samples", json!({})),
        ("conversations_put", json!({"model": MODEL, "messages": said, "system_prompt": "Be brief."})),
        ("conversations_put", json!({"id": "chat_1", "model": MODEL, "messages": said})),
        ("conversations_put", json!({"model": MODEL, "messages": [{"role": "user"}]})),
        ("conversations_list", json!({})),
        ("conversations_get", json!({"conversation_id": CONVERSATION})),
        ("conversations_delete", json!({"conversation_id": CONVERSATION})),
        ("conversations_get", json!({"conversation_id": CONVERSATION})),
        ("storage_usage", json!({})),
        ("storage_free", json!({"kind": "export", "id": "mine"})),
        ("storage_free", json!({"kind": "export", "id": "mine"})),
        ("models_delete", json!({"model_id": MODEL})),
        ("models_delete", json!({"model_id": MODEL})),
        ("models_list", json!({})),
        ("runs_delete", json!({"job_id": JOB})),
        ("runs_events", json!({"job_id": JOB})),
    ]
}

/// For every operation: a field that it does not have, and each of its fields with a value that no field takes.
fn wrong_requests() -> Vec<(&'static str, Value)> {
    let mut requests = Vec::new();
    for operation in OPERATIONS {
        let in_path = operation.fields.iter().filter(|field| operation.place(field.name) == Place::Path);
        let path: Map<String, Value> = in_path.map(|field| (field.name.to_owned(), json!("a"))).collect();
        let mut push = |field: &str, wrong| {
            let mut request = path.clone();
            request.insert(field.to_owned(), wrong);
            requests.push((operation.name, Value::Object(request)));
        };
        push("no_such_field", json!("a"));
        for field in operation.fields {
            let is_text = matches!(field.kind, Kind::Text | Kind::LongText);
            let wrong = match operation.place(field.name) {
                Place::Body => json!({"a": [null]}),
                // What stands in a path or after a question mark is text.
                Place::Path | Place::Query => json!(if is_text { " " } else { "[1, 2" }),
            };
            push(field.name, wrong);
        }
    }
    requests
}

/// What is compared: the answer without the host's own folder, and without what changes by itself.
fn comparable(value: &Value, folder: &str) -> Value {
    match value {
        Value::String(text) if text.starts_with("chat_2") => json!(CONVERSATION),
        Value::String(text) => json!(text.replace(folder, FOLDER)),
        Value::Array(items) => items.iter().map(|item| comparable(item, folder)).collect(),
        Value::Object(fields) => {
            let pair = |(key, value): (&String, &Value)| {
                let changes = CHANGING.contains(&key.as_str());
                (key.clone(), if changes { json!(kind(value)) } else { comparable(value, folder) })
            };
            Value::Object(fields.iter().map(pair).collect())
        }
        plain => plain.clone(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Asks one host everything, each question with the host's own folder and conversation in it.
fn answers(host: &dyn Host, folder: &Path, requests: &[(&'static str, Value)]) -> Vec<Answer> {
    let folder = folder.to_str().unwrap();
    let mut conversation = String::from("none");
    let mut answers = Vec::new();
    for (name, request) in requests {
        let operation = Operation::find(name).unwrap();
        let fill = |(key, value): (&String, &Value)| {
            let text = value.as_str().map(|t| t.replace(FOLDER, folder).replace(CONVERSATION, &conversation));
            (key.clone(), text.map_or_else(|| value.clone(), Value::String))
        };
        let request: Map<String, Value> = request.as_object().unwrap().iter().map(fill).collect();
        let answer = host.answer(operation, request);
        if let (&"conversations_put", Ok(kept)) = (name, &answer) {
            conversation = kept["id"].as_str().unwrap().to_owned();
        }
        // The id is the second in which the conversation was made.
        let comparable = |value: &Value| {
            let text = comparable(value, folder).to_string().replace(&conversation, CONVERSATION);
            serde_json::from_str(&text).unwrap()
        };
        answers.push(answer.map(|value| comparable(&value)).map_err(|error| comparable(&error)));
    }
    answers
}

/// Fails where two hosts do not answer alike, and gives what they answered.
fn check(requests: &[(&'static str, Value)]) -> Vec<Answer> {
    let temp = tempfile::tempdir().unwrap();
    let folder = |name| temp.path().join(name);
    let expected = answers(&Itself(app(&folder("a"))), &folder("a"), requests);
    let hosts: [(&str, Box<dyn Host>); 2] =
        [("b", Box::new(Window::open(app(&folder("b"))))), ("c", Box::new(Rest::open(app(&folder("c")))))];
    for (name, host) in hosts {
        let found = answers(&*host, &folder(name), requests);
        for (((operation, request), expected), found) in requests.iter().zip(&expected).zip(&found) {
            assert_eq!(found, expected, "{host:?} answers {operation} {request} as the operation does");
        }
    }
    expected
}

#[test]
fn every_host_gives_the_same_answers() {
    let requests = requests();
    let answers = check(&requests);
    let mut good = BTreeSet::new();
    for ((operation, request), answer) in requests.iter().zip(&answers) {
        match answer {
            Ok(_) => _ = good.insert(*operation),
            Err(error) => {
                let status = error["status_code"].as_u64().unwrap();
                assert!(
                    [400, 403, 404].contains(&status),
                    "{operation} {request} is the caller's fault: {error}"
                );
            }
        }
    }
    // What these give takes an engine, the Hub or an account there, or does not end; the token's also change the user's own
    // keychain.
    let given_elsewhere: BTreeSet<&str> = [
        "app_changes",
        "finetune_validate_custom_model",
        "finetune_set_custom_model",
        "finetune_start_training",
        "finetune_estimate",
        "finetune_dry_run",
        "models_export",
        "models_train_again",
        "queue_add",
        "queue_place",
        "queue_remove",
        "runs_pause",
        "runs_resume",
        "runs_stop",
        "playground_new",
        "playground_stream",
        "hub_push",
        "hub_upload",
        "hub_set_token",
        "hub_clear_token",
        "hub_whoami",
    ]
    .into();
    let all: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    let asked: BTreeSet<&str> = good.union(&given_elsewhere).copied().collect();
    assert_eq!(asked, all, "every operation that can be is asked for something it gives");
}

#[test]
fn every_host_refuses_wrong_fields_alike() {
    let requests = wrong_requests();
    for ((operation, request), answer) in requests.iter().zip(check(&requests)) {
        let error = answer.expect_err(&format!("{operation} {request} is refused"));
        let status = error["status_code"].as_u64().unwrap();
        assert!(status == 400 || status == 404, "{operation} {request} is the caller's fault: {error}");
    }
}

#[test]
fn a_command_takes_an_object_and_a_stream_takes_a_channel() {
    let temp = tempfile::tempdir().unwrap();
    let window = Window::open(app(temp.path()));
    let listed = window.invoke("models_list", json!({}).into()).unwrap();
    assert_eq!(window.invoke("models_list", Value::Null.into()), Ok(listed), "no arguments are no fields");
    for body in [json!([]).into(), json!("a").into(), vec![1_u8, 2].into()] {
        let error = window.invoke("models_list", body).unwrap_err();
        assert_eq!(error["status_code"], 400, "what is no object is refused: {error}");
    }
    for (channel, kind) in [
        (json!({}), "missing"),
        (json!({"channel": 7}), "type_error"),
        (json!({"channel": "7"}), "type_error"),
    ] {
        let mut request = channel;
        request["job_id"] = json!(JOB);
        let error = window.invoke("runs_events", request.into()).unwrap_err();
        assert_eq!(error["detail"][0]["loc"], json!(["body", "channel"]), "the argument is named: {error}");
        assert_eq!(
            (&error["status_code"], &error["detail"][0]["type"]),
            (&json!(400), &json!(kind)),
            "{error}"
        );
    }
    let error = window.invoke("models_list", json!({"channel": "__CHANNEL__:1"}).into()).unwrap_err();
    assert_eq!(error["detail"][0]["type"], "extra_forbidden", "only a stream has a channel: {error}");
    let error = window.invoke("models_burn", json!({}).into()).unwrap_err();
    assert_eq!(error, "Command models_burn not found", "a command that is no operation is left to Tauri");
}
