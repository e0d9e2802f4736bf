//! Golden requests with their answers, in the order in which they are asked. [`crate::shape`] explains the signs.

mod beyond;
mod choice;
mod models;
mod training;

use serde_json::{Value, json};

use beyond::beyond;
use choice::choice;
use models::models;
use training::training;

/// A request and what it is answered with.
#[derive(Debug, Clone)]
pub struct Pair {
    pub operation: &'static str,
    /// Method and path.
    pub route: &'static str,
    /// The body; null for none.
    pub request: Value,
    pub status: u16,
    pub answer: Value,
    /// Whether the answer may take a while to become this.
    pub wait: bool,
}

/// All of it, in its order.
pub fn all() -> [Vec<Pair>; 4] {
    [choice(), training(), models(), beyond()]
}

fn pair(operation: &'static str, route: &'static str, request: Value, status: u16, answer: Value) -> Pair {
    Pair { operation, route, request, status, answer, wait: false }
}

fn wait(operation: &'static str, route: &'static str, answer: Value) -> Pair {
    Pair { operation, route, request: Value::Null, status: 200, answer, wait: true }
}

fn detail(text: &str) -> Value {
    json!({"detail": text})
}

/// The documented list for one bad field.
fn field(place: &str, name: &str, kind: &str, msg: &str) -> Value {
    json!({"detail": [{"loc": [place, name], "msg": msg, "type": kind}]})
}

fn missing(name: &str) -> Value {
    field("body", name, "missing", "<string>")
}

/// A field that no operation has.
fn unknown(place: &str) -> Value {
    field(place, "colour", "extra_forbidden", "<string>")
}

fn task(place: &str) -> Value {
    let msg = "Invalid task: xyz. Must be one of ['text-generation', 'summarization', 'extractive-question-answering']";
    field(place, "task", "value_error", msg)
}

fn done(message: &str) -> Value {
    json!({"success": true, "message": message})
}

fn no_model() -> Value {
    detail("Model model_xyz not found")
}

fn no_run() -> Value {
    detail("Training run train_xyz not found")
}

fn run(changes: Value) -> Value {
    let mut request = json!({
        "task": "text-generation", "model_name": "modelforge/starter", "provider": "huggingface", "strategy": "sft",
        "dataset": "$rows", "compute_specs": "low_end", "num_train_epochs": 3, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "learning_rate": 2e-4, "lora_r": 4, "max_steps": 4, "eval_steps": 4,
        "save_steps": 2, "gradient_checkpointing": false, "name": "test",
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    request
}

fn status(status: &str, progress: Value, message: &str, error: Value) -> Value {
    json!({"status": status, "progress": progress, "message": message, "error": error})
}
