//! Choosing a task and a model, on an empty data folder.

use serde_json::{Value, json};

use super::{Pair, detail, field, missing, pair, status, task, unknown};

/// The first pages of the wizard, on an empty data folder.
pub fn choice() -> Vec<Pair> {
    let custom =
        "Model acme/none is not accessible. Please check if it exists and you have permissions.<rest>";
    let other = "Model acme/none is not accessible. Please check if you have the required permissions.<rest>";
    let session = |task: Value, model: Value, custom: bool| json!({"success": true, "task": task, "selected_model": model, "is_custom_model": custom});
    let validate_task = "POST /api/finetune/validate_task";
    let validate_model = "POST /api/finetune/validate_model";
    let validate_custom = "POST /api/finetune/validate_custom_model";
    let set_custom = "POST /api/finetune/set_custom_model";
    vec![
        pair(
            "finetune_session",
            "GET /api/finetune/session",
            Value::Null,
            200,
            session(json!(null), json!(null), false),
        ),
        pair("finetune_session", "GET /api/finetune/session?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "finetune_validate_task",
            validate_task,
            json!({"task": "text-generation"}),
            200,
            json!({"valid": true, "task": "text-generation"}),
        ),
        pair("finetune_validate_task", validate_task, json!({"task": "xyz"}), 400, task("body")),
        pair("finetune_validate_task", validate_task, json!({}), 400, missing("task")),
        pair(
            "finetune_validate_task",
            validate_task,
            json!({"task": 7}),
            400,
            field("body", "task", "type_error", "<string>"),
        ),
        pair(
            "finetune_validate_task",
            validate_task,
            json!({"task": "summarization", "colour": 1}),
            400,
            unknown("body"),
        ),
        pair(
            "finetune_validate_model",
            validate_model,
            json!({"selected_model": "modelforge/starter"}),
            200,
            json!({"valid": true, "model": "modelforge/starter"}),
        ),
        pair(
            "finetune_validate_model",
            validate_model,
            json!({"selected_model": "acme/public"}),
            200,
            json!({"valid": true, "model": "acme/public"}),
        ),
        pair(
            "finetune_validate_model",
            validate_model,
            json!({"selected_model": "acme/none"}),
            403,
            detail(other),
        ),
        pair(
            "finetune_validate_model",
            validate_model,
            json!({"selected_model": "acme/broken"}),
            500,
            detail("An internal error occurred: <rest>"),
        ),
        pair(
            "finetune_validate_model",
            validate_model,
            json!({"selected_model": ""}),
            400,
            field("body", "selected_model", "value_error", "must not be blank"),
        ),
        pair(
            "finetune_validate_custom_model",
            validate_custom,
            json!({"repo_name": "acme/public"}),
            200,
            json!({
                "valid": true, "repo_name": "acme/public",
                "model_info": {"id": "acme/public", "author": "acme", "downloads": "<integer>", "likes": "<integer>"},
            }),
        ),
        pair(
            "finetune_validate_custom_model",
            validate_custom,
            json!({"repo_name": "acme/none"}),
            403,
            detail(custom),
        ),
        pair(
            "finetune_validate_custom_model",
            validate_custom,
            json!({"repo_name": "acme/broken"}),
            500,
            detail("An internal error occurred: <rest>"),
        ),
        pair(
            "finetune_validate_custom_model",
            validate_custom,
            json!({"repo_name": "../.."}),
            400,
            field("body", "repo_name", "value_error", "<string>"),
        ),
        pair("finetune_validate_custom_model", validate_custom, json!({}), 400, missing("repo_name")),
        pair(
            "finetune_detect",
            "POST /api/finetune/detect",
            json!({"task": "text-generation"}),
            200,
            json!({
                "status_code": 200, "profile": "<low_end|mid_range|high_end>", "task": "text-generation",
                "gpu_name": "<string>", "gpu_total_memory_gb": "<number>", "ram_total_gb": "<number>",
                "available_diskspace_gb": "<number>", "cpu_cores": "<integer>", "model_recommendation": "<string>",
                "possible_options": ["<each>", "<string>"],
            }),
        ),
        pair("finetune_detect", "POST /api/finetune/detect", json!({"task": "xyz"}), 400, task("body")),
        pair(
            "finetune_set_model",
            "POST /api/finetune/set_model",
            json!({"selected_model": "modelforge/starter"}),
            200,
            json!({"success": true, "selected_model": "modelforge/starter", "message": "Model selection saved successfully"}),
        ),
        pair("finetune_set_model", "POST /api/finetune/set_model", json!({}), 400, missing("selected_model")),
        pair(
            "finetune_session",
            "GET /api/finetune/session",
            Value::Null,
            200,
            session(json!("text-generation"), json!("modelforge/starter"), false),
        ),
        pair("finetune_set_custom_model", set_custom, json!({"repo_name": "acme/none"}), 403, detail(custom)),
        pair(
            "finetune_set_custom_model",
            set_custom,
            json!({"repo_name": "acme/public"}),
            200,
            json!({
                "success": true, "selected_model": "acme/public",
                "message": "Custom model validated and saved successfully", "valid": true, "repo_name": "acme/public",
            }),
        ),
        pair(
            "finetune_session",
            "GET /api/finetune/session",
            Value::Null,
            200,
            session(json!("text-generation"), json!("acme/public"), true),
        ),
        pair(
            "finetune_load_settings",
            "GET /api/finetune/load_settings",
            Value::Null,
            200,
            json!({
                "per_device_train_batch_size": "<integer>", "gradient_accumulation_steps": "<integer>",
                "learning_rate": 2e-4, "num_train_epochs": 3, "max_seq_length": "<integer>", "lora_r": "<integer>",
                "lora_alpha": "<integer>", "use_4bit": "<bool>", "bf16": "<bool>", "warmup_ratio": 0.03,
                "lr_scheduler_type": "cosine", "optim": "paged_adamw_32bit",
            }),
        ),
        pair(
            "finetune_load_settings",
            "GET /api/finetune/load_settings?colour=1",
            Value::Null,
            400,
            unknown("query"),
        ),
        pair(
            "finetune_hardware_specs",
            "GET /api/finetune/hardware_specs",
            Value::Null,
            200,
            json!({
                "gpu_name": "<string>", "gpu_memory_gb": "<number>", "ram_gb": "<number>", "disk_space_gb": "<number>",
                "cpu_cores": "<integer>", "cuda_version?": "<string>",
            }),
        ),
        pair(
            "finetune_hardware_specs",
            "GET /api/finetune/hardware_specs?colour=1",
            Value::Null,
            400,
            unknown("query"),
        ),
        pair(
            "finetune_recommended_models",
            "GET /api/finetune/recommended_models/summarization",
            Value::Null,
            200,
            json!({
                "task": "summarization", "recommended_model": "<string>", "possible_models": ["<each>", "<string>"],
                "compute_profile": "<low_end|mid_range|high_end>",
            }),
        ),
        pair(
            "finetune_recommended_models",
            "GET /api/finetune/recommended_models/xyz",
            Value::Null,
            400,
            task("path"),
        ),
        pair(
            "finetune_status",
            "GET /api/finetune/status",
            Value::Null,
            200,
            status("idle", json!(0), "No training in progress", Value::Null),
        ),
        pair("finetune_status", "GET /api/finetune/status?colour=1", Value::Null, 400, unknown("query")),
        pair("models_list", "GET /api/models/", Value::Null, 200, json!([])),
    ]
}
