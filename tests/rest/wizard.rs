//! The wizard from its first page to its last, on the starter model, with a server that is restarted on the way.

use serde_json::{Value, json};

use crate::support::{Server, keys, small_run};

const TASK: &str = "text-generation";
const STARTER: &str = "modelforge/starter";

/// The answer to what must succeed.
async fn good(server: &Server, path: &str, body: Value) -> Value {
    let (status, answer) = match body {
        Value::Null => server.get(path).await,
        body => server.post(path, body).await,
    };
    assert_eq!(status, 200, "{path} is a good request: {answer}");
    answer
}

/// Whether a message is one that a run at work has.
fn is_of_work(message: &str) -> bool {
    let step = |text: &str| -> Option<()> {
        let (epoch, step) = text.split_once(" - Step ")?;
        for pair in [epoch, step] {
            let (done, of) = pair.split_once('/')?;
            let (done, of): (u64, u64) = (done.parse().ok()?, of.parse().ok()?);
            (done <= of).then_some(())?;
        }
        Some(())
    };
    let stepped =
        message.strip_prefix("Training epoch ").or_else(|| message.strip_prefix("Evaluating epoch "));
    match stepped {
        Some(text) => step(text).is_some(),
        None => matches!(
            message,
            "Starting the training engine"
                | "Preparing the dataset"
                | "Loading the model"
                | "Saving the model"
        ),
    }
}

#[tokio::test]
async fn the_wizard_from_its_first_page_to_its_last() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    let server = Server::on(&home, &[("HF_ENDPOINT", "http://127.0.0.1:9".as_ref())]);

    let answer = good(&server, "/api/finetune/validate_task", json!({"task": TASK})).await;
    assert_eq!(answer, json!({"valid": true, "task": TASK}));
    let detected = good(&server, "/api/finetune/detect", json!({"task": TASK})).await;
    let options = detected["possible_options"].as_array().unwrap();
    assert!(options.contains(&json!(STARTER)), "the starter is an option on every machine: {detected}");
    assert!(
        options.contains(&detected["model_recommendation"]),
        "what is recommended is an option: {detected}"
    );
    good(&server, "/api/finetune/set_model", json!({"selected_model": STARTER})).await;
    let session = good(&server, "/api/finetune/session", Value::Null).await;
    let chosen = json!({"success": true, "task": TASK, "selected_model": STARTER, "is_custom_model": false});
    assert_eq!(session, chosen);

    drop(server);
    let server = Server::on(&home, &[("HF_ENDPOINT", "http://127.0.0.1:9".as_ref())]);
    let session = good(&server, "/api/finetune/session", Value::Null).await;
    assert_eq!(session, chosen, "the choices are kept over a restart");

    let settings = good(&server, "/api/finetune/load_settings", Value::Null).await;
    let changes = json!({
        "learning_rate": settings["learning_rate"], "lora_alpha": settings["lora_alpha"],
        "warmup_ratio": settings["warmup_ratio"], "lr_scheduler_type": settings["lr_scheduler_type"],
        "optim": settings["optim"], "num_train_epochs": settings["num_train_epochs"], "max_steps": 12,
    });
    let idle = good(&server, "/api/finetune/status", Value::Null).await;
    assert_eq!(
        idle,
        json!({"status": "idle", "progress": 0, "message": "No training in progress", "error": null})
    );
    let started = good(&server, "/api/finetune/start_training", small_run(&server.rows(12), changes)).await;
    assert_eq!(keys(&started), ["success", "message", "job_id"]);

    let seen = std::cell::RefCell::new(Vec::new());
    let last = server
        .status_until(|status| {
            seen.borrow_mut().push(status.clone());
            status["status"] != "running"
        })
        .await;
    let completed = json!({"status": "completed", "progress": 100, "message": "Training completed successfully", "error": null});
    assert_eq!(last, completed);
    let mut before = 0;
    for status in seen.borrow().iter() {
        assert_eq!(keys(status), ["status", "progress", "message", "error"], "four keys, always");
        let progress = status["progress"].as_u64().unwrap();
        assert!(progress >= before && progress <= 100, "progress never falls: {before} before {status}");
        before = progress;
        let message = status["message"].as_str().unwrap();
        assert!(
            status["status"] == "completed" || is_of_work(message),
            "a run at work says what it does: {status}"
        );
    }
    assert!(
        seen.borrow().iter().any(|status| status["status"] == "running"),
        "a run is running before it is completed: {seen:?}"
    );

    let listed = good(&server, "/api/models/", Value::Null).await;
    let row = &listed[0];
    assert_eq!(listed.as_array().unwrap().len(), 1, "one run makes one model: {listed}");
    let id = row["model_id"].as_str().unwrap();
    let model = good(&server, &format!("/api/models/{id}"), Value::Null).await;
    for key in keys(row) {
        assert_eq!(model[key], row[key], "the list and the model say the same of {key}");
    }
    assert_eq!(model["config"]["max_steps"], 12, "a model knows the settings of its run: {model}");
    assert!(model["metrics"]["final_loss"].as_f64().unwrap().is_finite(), "a loss was measured: {model}");
    let of_task = good(&server, &format!("/api/models/task/{TASK}"), Value::Null).await;
    assert_eq!(of_task[0]["model_id"], id, "the model is listed for its task");
    let path = good(&server, &format!("/api/playground/model_path?model_id={id}"), Value::Null).await;
    let folder = std::path::PathBuf::from(path["model_path"].as_str().unwrap());
    assert!(folder.join("adapter_model.safetensors").is_file(), "the model's folder has its weights: {path}");
    let prompt = json!({"model_id": id, "prompt": "What is box 3?", "max_length": 12, "temperature": 0.7, "top_p": 0.9});
    let answer = good(&server, "/api/playground/new", prompt).await;
    assert_eq!(answer["prompt"], "What is box 3?", "the prompt comes back as it was asked");
    assert!((1..=12).contains(&answer["tokens_generated"].as_u64().unwrap()), "at most max_length: {answer}");

    let (status, answer) = server.delete(&format!("/api/models/{id}")).await;
    assert_eq!(
        (status, answer),
        (200, json!({"success": true, "message": format!("Model {id} deleted successfully")}))
    );
    assert!(!folder.exists(), "a deleted model's files are gone");
    let gone = json!({"detail": format!("Model {id} not found")});
    for path in [format!("/api/models/{id}"), format!("/api/playground/model_path?model_id={id}")] {
        assert_eq!(server.get(&path).await, (404, gone.clone()), "{path}: a deleted model is unknown");
    }
    assert_eq!(server.delete(&format!("/api/models/{id}")).await, (404, gone.clone()), "deleted once");
    let again = server.post("/api/playground/new", json!({"model_id": id, "prompt": "a"})).await;
    assert_eq!(again, (404, gone), "a deleted model does not answer");
}
