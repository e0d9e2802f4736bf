//! Every family of models for every task it can be tuned to, by both providers: trained, loaded again, asked, and deleted; and
//! refused for what it cannot do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use types::{
    Task,
    architecture::{self, ModelKind},
    files,
};

use crate::{
    events::Events,
    support::{Server, small_run},
};

const CONTEXT: &str = "Über dem Hafen: the keeper counts the ferries, the book is on the table.";
const PROVIDERS: [&str; 2] = ["huggingface", "unsloth"];

/// A tiny model of the goldens.
struct Tiny {
    name: String,
    folder: PathBuf,
    architecture: String,
    kind: ModelKind,
    tasks: &'static [Task],
}

/// The goldens of a kind that have a tokenizer, one of each family and way of storing it.
fn tiny(kind: ModelKind) -> Vec<Tiny> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<Tiny> = folders
        .filter(|folder| folder.join("config.json").is_file() && folder.join("tokenizer.json").is_file())
        .map(|folder| {
            let config: Value =
                serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
            let architecture = config["architectures"][0].as_str().unwrap().to_owned();
            let known = architecture::find(&architecture).unwrap();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            Tiny { name, folder, architecture, kind: known.kind, tasks: known.tasks }
        })
        .filter(|tiny| tiny.kind == kind)
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A dataset for a task, one question of which has no answer where the model can say so.
fn rows(server: &Server, task: Task, kind: ModelKind) -> PathBuf {
    let row = |i| match task {
        Task::TextGeneration => {
            json!({"input": format!("What is box {i}?"), "output": format!("Box {i} is blue.")})
        }
        Task::Summarization => json!({
            "document": format!("The keeper counts {i} ferries. They leave the harbour at nine."),
            "summary": format!("{i} ferries leave."),
        }),
        Task::ExtractiveQuestionAnswering => {
            let answers = match i {
                3 if kind == ModelKind::Span => json!({"text": [], "answer_start": []}),
                _ => json!({"text": ["the table"], "answer_start": [CONTEXT.chars().count() - 10]}),
            };
            json!({"context": CONTEXT, "question": format!("Where is book {i}?"), "answers": answers})
        }
    };
    let path = server.home.with_extension(format!("{}-{kind:?}.jsonl", task.name()));
    let lines: Vec<String> = (0..12).map(|i| row(i).to_string()).collect();
    files::write(&path, lines.join("\n").as_bytes()).unwrap();
    path
}

fn run(server: &Server, tiny: &Tiny, task: Task, changes: Value) -> Value {
    let mut request = json!({
        "task": task.name(), "model_name": tiny.folder, "max_seq_length": if tiny.kind == ModelKind::Causal { 128 } else { 64 },
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    small_run(&rows(server, task, tiny.kind), request)
}

/// What is asked of a model that was tuned to a task.
fn prompt(task: Task) -> String {
    match task {
        Task::TextGeneration => "What is box 3?".to_owned(),
        Task::Summarization => "The keeper counts 3 ferries.".to_owned(),
        Task::ExtractiveQuestionAnswering => format!("Context: {CONTEXT}\n\nQuestion: Where is the book?"),
    }
}

/// Asks a model as a stream and gives the last event, having checked the pieces before it.
async fn streamed(server: &Server, model: &str, task: Task, params: Value) -> Value {
    let body =
        json!({"model_id": model, "messages": [{"role": "user", "content": prompt(task)}], "params": params});
    let stream = server.client.post(format!("{}/api/playground/stream", server.url)).json(&body);
    let events = Events::open(stream).await.rest().await;
    let (last, pieces) = events.split_last().unwrap();
    assert_eq!(last.data["type"], "done", "{model}: {last:?}");
    let joined: String = pieces.iter().filter_map(|piece| piece.data["text"].as_str()).collect();
    assert!(pieces.is_empty() || last.data["text"] == joined, "the text is what its pieces are: {events:?}");
    last.data.clone()
}

/// What only models that point at answers do.
async fn check_span(server: &Server, model: &str, what: &str) {
    let told =
        streamed(server, model, Task::ExtractiveQuestionAnswering, json!({"no_answer_threshold": 1.0})).await;
    let place = |end: &str| told["stats"]["span"][end].as_u64().unwrap() as usize;
    let (start, end) = (place("start"), place("end"));
    let found: String = CONTEXT.chars().skip(start).take(end - start).collect();
    assert_eq!(told["text"], found, "{what}: the characters of the text at the place that is told");
    assert!(told["stats"]["span"]["score"].as_f64().unwrap() > 0.0, "{what}: {told}");
    let question = json!({"model_id": model, "prompt": "Where?"});
    let (code, refused) = server.post("/api/playground/new", question).await;
    assert_eq!(code, 400, "{what}: without a text there is nothing to point at: {refused}");
    assert!(refused.to_string().contains("give a question and a context"), "{refused}");
}

/// Trains, asks and deletes a model of every family of a kind for every task, by both providers.
async fn each(kind: ModelKind) {
    let server = Server::start();
    let families = tiny(kind);
    assert!(families.len() >= 4, "there are goldens of {kind}");
    for (number, family) in families.iter().enumerate() {
        for (&task, (turn, provider)) in
            family.tasks.iter().flat_map(|task| PROVIDERS.into_iter().enumerate().map(move |p| (task, p)))
        {
            let what = format!("{} ({}), {}, {provider}", family.name, family.architecture, task.name());
            let changes = json!({"provider": provider, "gradient_checkpointing": (number + turn) % 2 == 0});
            let (code, started) =
                server.post("/api/finetune/start_training", run(&server, family, task, changes)).await;
            assert_eq!(code, 200, "{what}: {started}");
            let status = server.status_until(|s| s["status"] != "running").await;
            assert_eq!(status["status"], "completed", "{what}: {status}");

            let (_, models) = server.get("/api/models/").await;
            let model = models[0]["model_id"].as_str().unwrap().to_owned();
            let folder = server.home.join("models").join(&model);
            let config: Value =
                serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
            let task_type = match kind {
                ModelKind::Causal => "CAUSAL_LM",
                ModelKind::Seq2Seq => "SEQ_2_SEQ_LM",
                ModelKind::Span => "QUESTION_ANS",
            };
            assert_eq!(config["task_type"], task_type, "{what}");
            let templated = folder.join("chat_template.jinja").exists();
            assert!(
                kind == ModelKind::Causal || !templated,
                "{what}: what it reads is put through no template"
            );

            let request = json!({"model_id": model, "prompt": prompt(task), "max_length": 12});
            let (code, answer) = server.post("/api/playground/new", request).await;
            assert_eq!(code, 200, "{what}: {answer}");
            let text = answer["generated_text"].as_str().unwrap();
            match kind {
                ModelKind::Span => {
                    assert!(
                        text.is_empty() || CONTEXT.contains(text),
                        "{what}: a part of the text: {answer}"
                    );
                    check_span(&server, &model, &what).await;
                }
                // One that is asked for no beams answers token by token.
                _ => {
                    let params = json!({"max_new_tokens": 12, "temperature": 0.0, "num_beams": 1});
                    let once = streamed(&server, &model, task, params.clone()).await;
                    let again = streamed(&server, &model, task, params).await;
                    assert_eq!(once["text"], again["text"], "{what}: without chance a model repeats itself");
                }
            }

            let (code, deleted) = server.delete(&format!("/api/models/{model}")).await;
            assert_eq!(code, 200, "{what}: {deleted}");
            assert!(!folder.exists(), "{what}: nothing of it is left");
            assert_eq!(server.get(&format!("/api/models/{model}")).await.0, 404, "{what}");
        }
    }
}

#[tokio::test]
async fn each_decoder_is_trained_asked_and_deleted() {
    each(ModelKind::Causal).await;
}

#[tokio::test]
async fn each_encoder_decoder_is_trained_asked_and_deleted() {
    each(ModelKind::Seq2Seq).await;
}

#[tokio::test]
async fn each_encoder_is_trained_asked_about_a_text_and_deleted() {
    each(ModelKind::Span).await;
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_with_what_would() {
    let server = Server::start();
    for family in [ModelKind::Seq2Seq, ModelKind::Span].into_iter().flat_map(tiny) {
        for task in Task::ALL.iter().copied().filter(|task| !family.tasks.contains(task)) {
            let request = run(&server, &family, task, json!({"provider": "huggingface"}));
            for path in ["/api/finetune/start_training", "/api/finetune/estimate"] {
                let (code, refused) = server.post(path, request.clone()).await;
                assert_eq!(code, 400, "{}, {}, {path}: {refused}", family.name, task.name());
                let text = refused.to_string();
                assert!(text.contains("can be tuned for") && text.contains(family.tasks[0].name()), "{text}");
                assert!(text.contains(&format!("For {} take a decoder-only model", task.name())), "{text}");
            }
        }
    }
}
