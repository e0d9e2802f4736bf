//! What is generated from the table of operations: complete, valid, current, and true of what requests are checked for
//! and of the documented answers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up ends the test")]

use std::{collections::HashSet, fs, path::Path};

use api::{OPERATIONS, UPLOAD_PATH, openapi, typescript};
use jsonschema::Validator;
use serde_json::{Value, json};
use types::{
    TrainingConfig,
    field::{Kind, MAX_TEXT},
};

/// A validator for a schema of the document, which may refer to its types.
fn validator(document: &Value, schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    jsonschema::draft202012::new(&schema).expect("every schema of the document must be a valid JSON Schema")
}

fn described<'a>(document: &'a Value, name: &str) -> &'a Value {
    let of_paths = document["paths"].as_object().unwrap().values();
    let mut methods = of_paths.flat_map(|methods| methods.as_object().unwrap().values());
    methods.find(|described| described["operationId"] == name).expect("every operation must be described")
}

fn answer_schema<'a>(document: &'a Value, name: &str) -> &'a Value {
    let schema = &described(document, name)["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{name} must say what it answers");
    schema
}

#[test]
fn committed_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let generated =
        [("docs/openapi.json", format!("{:#}\n", openapi())), ("ui/src/api/generated.ts", typescript())];
    for (file, text) in generated {
        if std::env::var_os("MODELFORGE_WRITE_GENERATED").is_some() {
            types::files::write(&root.join(file), text.as_bytes()).unwrap();
        }
        let committed = fs::read_to_string(root.join(file)).unwrap().replace("\r\n", "\n");
        assert!(committed == text, "{file} is stale: run `cargo xtask codegen`");
    }
}

#[test]
fn every_operation_is_described_once_at_its_route() {
    let document = openapi();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            if path == UPLOAD_PATH {
                continue;
            }
            count += 1;
            let operation = OPERATIONS.iter().find(|o| described["operationId"] == o.name);
            let operation = operation.expect("only operations of the table must be described");
            assert_eq!(
                (path.as_str(), method.to_uppercase().as_str()),
                (operation.path, operation.method.name())
            );
            let mut said: Vec<&str> = Vec::new();
            let parameters = described["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let of_fields = parameters.iter().filter(|parameter| parameter["in"] != "header");
            said.extend(of_fields.map(|parameter| parameter["name"].as_str().unwrap()));
            let body = &described["requestBody"]["content"]["application/json"]["schema"]["properties"];
            said.extend(body.as_object().into_iter().flatten().map(|(name, _)| name.as_str()));
            let fields: HashSet<&str> = operation.fields.iter().map(|field| field.name).collect();
            assert_eq!(said.len(), fields.len(), "{}: a field must be said in one place", operation.name);
            assert_eq!(HashSet::from_iter(said), fields, "{}: every field must be said", operation.name);
        }
    }
    assert_eq!(count, OPERATIONS.len(), "every operation must be described once");
}

#[test]
fn every_reference_leads_somewhere_and_every_name_is_one_type() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > OPERATIONS.len(), "the document must use references");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("references must stay in the document");
        assert!(document.pointer(pointer).is_some(), "{reference} must lead to something");
    }
    let types = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in types {
        assert!(
            !name.ends_with(|c: char| c.is_ascii_digit()),
            "{name}: two types have this name; give one of them another (#[schemars(rename)])"
        );
        validator(&document, schema);
    }
}

#[test]
fn documented_answers_are_valid_and_others_are_not() {
    let document = openapi();
    let model = "HuggingFaceTB/SmolLM2-135M";
    let row = json!({
        "model_id": "model_20250102_030405", "name": "Tuned", "base_model": model, "task": "summarization",
        "strategy": "sft", "created_at": "2025-01-02T03:04:05Z", "size_mb": 12.5, "path": "/data/models/tuned",
    });
    let mut details = row.clone();
    details["provider"] = json!("huggingface");
    let request = json!({"task": "summarization", "model_name": model, "dataset": "rows.jsonl"});
    details["config"] = json!(TrainingConfig::from_json(request.as_object().unwrap()).unwrap());
    details["metrics"] = json!({"final_loss": 1.5});
    let done = json!({"success": true, "message": "It is done"});
    let answers = [
        ("finetune_validate_task", json!({"valid": true, "task": "summarization"})),
        ("finetune_validate_model", json!({"valid": true, "model": model})),
        (
            "finetune_validate_custom_model",
            json!({
                "valid": true, "repo_name": model,
                "model_info": {"id": model, "author": "HuggingFaceTB", "downloads": 7, "likes": 0},
            }),
        ),
        (
            "finetune_detect",
            json!({
                "status_code": 200, "profile": "low_end", "task": "text-generation", "gpu_name": "No GPU detected",
                "gpu_total_memory_gb": 0.0, "ram_total_gb": 7.5, "available_diskspace_gb": 30.1, "cpu_cores": 2,
                "model_recommendation": model, "possible_options": [model],
            }),
        ),
        ("finetune_set_model", json!({"success": true, "selected_model": model, "message": "Kept"})),
        (
            "finetune_set_custom_model",
            json!({
                "success": true, "selected_model": model, "message": "Kept", "valid": true, "repo_name": model,
            }),
        ),
        (
            "finetune_session",
            json!({"success": true, "task": null, "selected_model": model, "is_custom_model": true}),
        ),
        (
            "finetune_load_settings",
            json!({
                "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1e-4,
                "num_train_epochs": 1, "max_seq_length": 512, "lora_r": 16, "lora_alpha": 32, "use_4bit": false,
                "bf16": false, "warmup_ratio": 0.1, "lr_scheduler_type": "linear", "optim": "sgd",
            }),
        ),
        (
            "finetune_start_training",
            json!({"success": true, "message": "Started", "job_id": "train_20250102_030405"}),
        ),
        (
            "finetune_status",
            json!({"status": "error", "progress": 12, "message": "Failed", "error": "out of memory"}),
        ),
        ("finetune_status", json!({"status": "idle", "progress": 0, "message": "Nothing", "error": null})),
        ("finetune_reset_status", done.clone()),
        (
            "finetune_hardware_specs",
            json!({
                "gpu_name": "A GPU", "gpu_memory_gb": 24.0, "ram_gb": 64.0, "disk_space_gb": 800.5, "cpu_cores": 16,
                "cuda_version": "12.4",
            }),
        ),
        (
            "finetune_recommended_models",
            json!({
                "task": "summarization", "recommended_model": model, "possible_models": [model],
                "compute_profile": "high_end",
            }),
        ),
        ("models_list", json!([row])),
        ("models_get", details),
        (
            "models_by_task",
            json!([{
                "model_id": "model_20250102_030405", "name": "Tuned", "base_model": model, "task": "summarization",
                "created_at": "2025-01-02T03:04:05Z",
            }]),
        ),
        ("models_delete", done),
        (
            "hub_push",
            json!({"success": true, "message": "Pushed", "repo_url": "https://huggingface.co/me/tuned"}),
        ),
        (
            "playground_model_path",
            json!({"model_path": "/data/models/tuned", "model_id": "model_20250102_030405"}),
        ),
        (
            "playground_new",
            json!({"generated_text": "Yes.", "prompt": "Well?", "tokens_generated": 2, "generation_time_ms": 90}),
        ),
    ];
    for (name, answer) in answers {
        let validator = validator(&document, answer_schema(&document, name));
        assert!(validator.is_valid(&answer), "{name} must be described as documented: {answer}");
        let keys = answer.get(0).unwrap_or(&answer).as_object().unwrap().clone();
        for key in keys.keys() {
            let mut wrong = answer.clone();
            let object = if wrong.is_array() { &mut wrong[0] } else { &mut wrong };
            object[key] = json!([[true]]);
            assert!(!validator.is_valid(&wrong), "{name}: the type of {key} must be described");
        }
    }
}

#[test]
fn documented_refusals_are_valid() {
    let document = openapi();
    let validator = validator(&document, &document["components"]["schemas"]["Refusal"]);
    for (body, valid) in [
        (json!({"detail": "Model model_x not found"}), true),
        (json!({"detail": [{"loc": ["body", "task"], "msg": "Invalid", "type": "value_error"}]}), true),
        (json!({"detail": [{"loc": "body", "msg": "Invalid", "type": "value_error"}]}), false),
        (json!({"message": "no"}), false),
    ] {
        assert_eq!(validator.is_valid(&body), valid, "refusals must be described as documented: {body}");
    }
    for operation in OPERATIONS {
        let responses = described(&document, operation.name)["responses"].as_object().unwrap();
        for status in operation.errors() {
            assert!(
                responses.contains_key(&status.to_string()),
                "{}: {status} must be described",
                operation.name
            );
        }
        assert!(responses.contains_key("400") && responses.contains_key("500"), "{}", operation.name);
    }
}

#[test]
fn the_schema_of_a_field_is_what_its_check_accepts() {
    let document = openapi();
    let long = |text: &str, times: usize| json!(text.repeat(times));
    let mut values = vec![
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!([""]),
        json!(["a"]),
        json!(["a", 1]),
        json!(""),
        json!("a"),
        json!("\u{0}"),
        json!("a\u{0}"),
        json!("a\nb\n"),
        json!(" a "),
        json!("sft"),
        json!("1"),
        json!(-1),
        json!(0),
        json!(0.0),
        json!(-0.0),
        json!(0.5),
        json!(1),
        json!(1.0),
        json!(3.0),
        json!(8),
        json!(100),
        json!(256),
        json!(257),
        json!(1e16),
        json!(9.3e18),
        json!(-1e300),
        json!(1e300),
        json!(i32::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        long("a", MAX_TEXT),
        long("a", MAX_TEXT + 1),
        long("é", MAX_TEXT),
        long("é", MAX_TEXT + 1),
    ];
    // Everything that some dialect of regular expressions or some language takes for white space.
    let spaces = "\t\n\u{b}\u{c}\r\u{1c}\u{1f} \u{85}\u{a0}\u{1680}\u{180e}\u{2000}\u{200a}\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
    values.extend(spaces.chars().map(|space| json!(space)));
    let mut compared = HashSet::new();
    for operation in OPERATIONS {
        let body =
            &described(&document, operation.name)["requestBody"]["content"]["application/json"]["schema"];
        for field in operation.fields {
            let Some(schema) = body["properties"].get(field.name) else { continue };
            if matches!(field.kind, Kind::Json { .. }) || !compared.insert((field.name, schema.to_string())) {
                continue;
            }
            let validator = validator(&document, schema);
            for value in &values {
                let accepted =
                    field.kind.check(field.name, value).is_ok() || (value.is_null() && field.nullable());
                let shown: String = value.to_string().chars().take(40).collect();
                assert_eq!(
                    validator.is_valid(value),
                    accepted,
                    "{} of {}: schema and check must agree on {shown}",
                    field.name,
                    operation.name
                );
            }
        }
    }
    assert!(compared.len() > 40, "the fields of requests must be compared");
}
