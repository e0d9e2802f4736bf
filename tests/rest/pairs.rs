//! Encoder-decoders as the app uses them: trained, loaded again, asked, and deleted; and refused for what they cannot do.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use types::files;

use crate::{
    events::Events,
    support::{Server, small_run},
};

/// The tiny models of the goldens, one of each family and way of storing it.
const PAIRS: [&str; 4] = ["t5-relu-tied-sharded", "flan-t5-gated-bf16", "bart-gelu", "distilbart-scaled-f16"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A dataset of short documents.
fn documents(server: &Server) -> PathBuf {
    let row = |i| {
        let document = format!("The keeper counts {i} ferries. They leave the harbour at nine.");
        json!({"document": document, "summary": format!("{i} ferries leave.")}).to_string()
    };
    let path = server.home.with_extension("documents.jsonl");
    files::write(&path, (0..12).map(row).collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
    path
}

fn run(server: &Server, model: &str, provider: &str, changes: Value) -> Value {
    let mut request = json!({"task": "summarization", "model_name": golden(model), "provider": provider});
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    if provider == "unsloth" {
        request["max_seq_length"] = json!(64);
    }
    small_run(&documents(server), request)
}

#[tokio::test]
async fn each_is_trained_asked_and_deleted() {
    let server = Server::start();
    for (number, name) in PAIRS.into_iter().enumerate() {
        for (provider, checkpointing) in [("huggingface", number % 2 == 0), ("unsloth", number % 2 == 1)] {
            let request = run(&server, name, provider, json!({"gradient_checkpointing": checkpointing}));
            let (code, started) = server.post("/api/finetune/start_training", request).await;
            assert_eq!(code, 200, "{name}, {provider}: {started}");
            let status = server.status_until(|s| s["status"] != "running").await;
            assert_eq!(status["status"], "completed", "{name}, {provider}: {status}");

            let (_, models) = server.get("/api/models/").await;
            let model = models[0]["model_id"].as_str().unwrap().to_owned();
            let folder = server.home.join("models").join(&model);
            let config = std::fs::read(folder.join("adapter_config.json")).unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            assert_eq!(config["task_type"], "SEQ_2_SEQ_LM", "{name}");
            assert!(
                !folder.join("chat_template.jinja").exists(),
                "{name}: a source is put through no template"
            );

            let request =
                json!({"model_id": model, "prompt": "The keeper counts 3 ferries.", "max_length": 20});
            let (code, summary) = server.post("/api/playground/new", request).await;
            assert_eq!(code, 200, "{name}, {provider}: {summary}");
            assert!(summary["tokens_generated"].as_u64().unwrap() > 0, "{name}: {summary}");
            let body = json!({
                "model_id": model, "messages": [{"role": "user", "content": "The keeper counts 3 ferries."}],
                "params": {"max_new_tokens": 12, "temperature": 0.0, "num_beams": 1},
            });
            let stream = server.client.post(format!("{}/api/playground/stream", server.url)).json(&body);
            let events = Events::open(stream).await.rest().await;
            let (last, pieces) = events.split_last().unwrap();
            assert_eq!(last.data["type"], "done", "{name}: {last:?}");
            let joined: String = pieces.iter().map(|piece| piece.data["text"].as_str().unwrap()).collect();
            assert_eq!(last.data["text"], joined, "{name}: token by token where one asks for no beams");

            let (code, deleted) = server.delete(&format!("/api/models/{model}")).await;
            assert_eq!(code, 200, "{name}: {deleted}");
        }
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_with_what_would() {
    let server = Server::start();
    let question = json!({"context": "a b", "question": "a?", "answer": "b"});
    let rows = server.home.with_extension("questions.jsonl");
    files::write(&rows, question.to_string().as_bytes()).unwrap();
    let request = run(
        &server,
        "bart-gelu",
        "huggingface",
        json!({"task": "extractive-question-answering", "dataset": rows}),
    );
    for path in ["/api/finetune/start_training", "/api/finetune/estimate"] {
        let (code, refused) = server.post(path, request.clone()).await;
        assert_eq!(code, 400, "{path}: {refused}");
        let text = refused.to_string();
        assert!(
            text.contains("can be tuned for summarization") && text.contains("a decoder-only model"),
            "{text}"
        );
    }
}
