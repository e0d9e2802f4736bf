//! Models that point at answers as the app uses them: trained, loaded again, asked about a text, and deleted; and refused for what
//! they cannot do.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use types::files;

use crate::{
    events::Events,
    support::{Server, small_run},
};

const SPANS: [&str; 4] = ["bert-span", "roberta-span-sharded-bf16", "distilbert-span-f16", "deberta-span"];
const CONTEXT: &str = "Über dem Hafen: the keeper counts the ferries, the book is on the table.";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A dataset about one text, one row of which has no answer.
fn questions(server: &Server) -> PathBuf {
    let row = |i| {
        let answers = match i {
            3 => json!({"text": [], "answer_start": []}),
            _ => json!({"text": ["the table"], "answer_start": [CONTEXT.chars().count() - 10]}),
        };
        json!({"context": CONTEXT, "question": format!("Where is book {i}?"), "answers": answers}).to_string()
    };
    let path = server.home.with_extension("questions.jsonl");
    files::write(&path, (0..12).map(row).collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
    path
}

fn run(server: &Server, model: &str, provider: &str, changes: Value) -> Value {
    let mut request = json!({
        "task": "extractive-question-answering", "model_name": golden(model), "provider": provider, "max_seq_length": 64,
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    small_run(&questions(server), request)
}

#[tokio::test]
async fn each_is_trained_asked_about_a_text_and_deleted() {
    let server = Server::start();
    for (number, name) in SPANS.into_iter().enumerate() {
        for (provider, checkpointing) in [("huggingface", number % 2 == 0), ("unsloth", number % 2 == 1)] {
            let request = run(&server, name, provider, json!({"gradient_checkpointing": checkpointing}));
            let (code, started) = server.post("/api/finetune/start_training", request).await;
            assert_eq!(code, 200, "{name}, {provider}: {started}");
            let status = server.status_until(|s| s["status"] != "running").await;
            assert_eq!(status["status"], "completed", "{name}, {provider}: {status}");

            let (_, models) = server.get("/api/models/").await;
            let model = models[0]["model_id"].as_str().unwrap().to_owned();
            let body = json!({
                "model_id": model, "context": CONTEXT, "params": {"no_answer_threshold": 1.0},
                "messages": [{"role": "user", "content": "Where is the book?"}],
            });
            let stream = server.client.post(format!("{}/api/playground/stream", server.url)).json(&body);
            let events = Events::open(stream).await.rest().await;
            let last = &events.last().unwrap().data;
            assert_eq!(last["type"], "done", "{name}: {last}");
            let place = |end: &str| last["stats"]["span"][end].as_u64().unwrap() as usize;
            let (start, end) = (place("start"), place("end"));
            let found: String = CONTEXT.chars().skip(start).take(end - start).collect();
            assert_eq!(last["text"], found, "{name}: the characters of the text at the place that is told");
            assert!(last["stats"]["span"]["score"].as_f64().unwrap() > 0.0, "{name}: {last}");

            let prompt = format!("Context: {CONTEXT}\n\nQuestion: Where is the book?");
            let (code, answer) =
                server.post("/api/playground/new", json!({"model_id": model, "prompt": prompt})).await;
            assert_eq!(code, 200, "{name}, {provider}: {answer}");
            let text = answer["generated_text"].as_str().unwrap();
            assert!(
                text.is_empty() || CONTEXT.contains(text),
                "{name}: a part of the text, or nothing: {answer}"
            );
            let (code, refused) =
                server.post("/api/playground/new", json!({"model_id": model, "prompt": "Where?"})).await;
            assert_eq!(code, 400, "{name}: without a text there is nothing to point at: {refused}");
            assert!(refused.to_string().contains("give a question and a context"), "{refused}");

            let (code, deleted) = server.delete(&format!("/api/models/{model}")).await;
            assert_eq!(code, 200, "{name}: {deleted}");
        }
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_with_what_would() {
    let server = Server::start();
    for task in ["summarization", "text-generation"] {
        let request = run(&server, "bert-span", "huggingface", json!({"task": task}));
        for path in ["/api/finetune/start_training", "/api/finetune/estimate"] {
            let (code, refused) = server.post(path, request.clone()).await;
            assert_eq!(code, 400, "{task}, {path}: {refused}");
            let text = refused.to_string();
            assert!(text.contains("can be tuned for extractive-question-answering"), "{text}");
            assert!(text.contains(&format!("For {task} take a decoder-only model")), "{text}");
        }
    }
}
