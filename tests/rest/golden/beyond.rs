//! What the app has beyond the documented operations.

use serde_json::{Value, json};

use super::{Pair, detail, done, field, missing, no_model, no_run, pair, run, status, task, unknown, wait};

/// What the app has beyond the documented operations; the model and the run are deleted at the end.
pub fn beyond() -> Vec<Pair> {
    let said = json!([{"role": "user", "content": "What is box 3?"}]);
    let params = json!({"max_new_tokens": 8.0, "temperature": 0.0});
    let run_row = |spec: bool| {
        let mut row = json!({
            "job_id": "$job", "model_id": "$model", "name": "test", "base_model": "modelforge/starter",
            "dataset": "$rows", "task": "text-generation", "strategy": "sft", "created_at": "<time>",
            "status": "completed", "place": null, "phase": "<string|null>", "download": null, "step": "<integer>", "total_steps": "<integer>",
            "epoch": "<number|null>", "num_train_epochs": 3, "loss": "<number>", "peak_memory_bytes": "<integer|null>",
            "metrics": "<object>", "started_at": "<time>", "updated_at": "<time>",
        });
        if spec {
            row["spec"] = json!({
                "version": "<integer>", "job_id": "$job", "model_id": "$model", "config": "<object>",
                "base_dir": "<string>", "dataset_path": "$rows", "eval_dataset_path": null, "model_dir": "$path",
                "created_at": "<time>",
            });
        }
        row
    };
    let event = json!({"seq": "<integer>", "time": "<time>", "event": "<string>", "…": ""});
    let column = json!({"low": "<array>", "high": "<array>", "mean": "<array>", "last": "<array>"});
    let conversation = |id: &str| {
        let row = json!({
            "id": id, "title": "<string>", "model": "$model", "created_at": "<time>", "updated_at": "<time>",
            "message_count": 1,
        });
        let mut whole = row.clone();
        let fields = json!({
            "system_prompt": "Be brief.", "params": "<object>",
            "messages": [{"role": "user", "content": "What is box 3?"}],
        });
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        (row, whole)
    };
    let settings = |offline: bool, minutes: u32| {
        json!({
            "theme": "system", "language": null, "offline": offline, "hub_endpoint": null,
            "compute_on": "auto", "unload_after_minutes": minutes,
        })
    };
    let stats = json!({
        "prompt_tokens": "<integer>", "tokens_generated": "<integer>", "prefill_ms": "<integer>",
        "generation_time_ms": "<integer>", "finish": "<eos|stop|length|context>",
    });
    let memory = json!({
        "weights": "<integer>", "adapter": "<integer>", "gradients": "<integer>", "optimizer": "<integer>",
        "activations": "<integer>", "logits": "<integer>", "kv_cache": "<integer>", "saving": "<integer>",
        "runtime": "<integer>", "total": "<integer>",
    });
    let no_conversation = || detail("Conversation chat_xyz not found");
    vec![
        pair(
            "app_info",
            "GET /api/info",
            Value::Null,
            200,
            json!({
                "name": "ModelForge", "version": env!("CARGO_PKG_VERSION"), "os": "<linux|macos|windows>",
                "arch": "<string>", "home": "$home", "damaged_database": null,
                "other_app": null,
            }),
        ),
        pair("app_info", "GET /api/info?colour=1", Value::Null, 400, unknown("query")),
        pair("app_health", "GET /api/health", Value::Null, 200, json!({"status": "ok"})),
        pair("app_health", "GET /api/health?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "finetune_config_schema",
            "GET /api/finetune/config_schema",
            Value::Null,
            200,
            json!(["<each>", {"name": "<string>", "…": ""}]),
        ),
        pair(
            "finetune_config_schema",
            "GET /api/finetune/config_schema?colour=1",
            Value::Null,
            400,
            unknown("query"),
        ),
        pair(
            "finetune_catalogue",
            "GET /api/finetune/catalogue/text-generation",
            Value::Null,
            200,
            json!({
                "task": "text-generation", "profile": "<low_end|mid_range|high_end>", "recommended": "<string>",
                "possible": ["<each>", {"name": "<string>", "title": "<string>", "family": "<string>", "…": ""}],
            }),
        ),
        pair("finetune_catalogue", "GET /api/finetune/catalogue/xyz", Value::Null, 400, task("path")),
        pair(
            "finetune_estimate",
            "POST /api/finetune/estimate",
            run(json!({})),
            200,
            json!({
                "memory": memory, "free_memory_bytes": "<integer>", "card": "<string|null>", "fit": "<string>",
                "nearest": null, "on_processor": null,
                "disk": {
                    "checkpoints": "<integer>", "working": "<integer>", "model": "<integer>", "total": "<integer>",
                },
                "free_disk_bytes": "<integer>",
                "workload": {
                    "tokens": "<integer>", "trained_tokens": "<integer>", "eval_tokens": "<integer>",
                    "eval_trained_tokens": "<integer>", "generated_tokens": "<integer>", "steps": 4,
                },
                "time": {
                    "seconds": "<number>", "seconds_per_step": "<number>", "tokens_per_second": "<number>",
                    "flops": "<number>",
                },
                "longest_row": "<integer>",
            }),
        ),
        pair(
            "finetune_estimate",
            "POST /api/finetune/estimate",
            run(json!({"dataset": "$home/none.jsonl"})),
            400,
            detail("Dataset validation failed: File not found"),
        ),
        pair(
            "finetune_dry_run",
            "POST /api/finetune/dry_run",
            run(json!({})),
            200,
            json!({
                "load_ms": "<number>", "prepare_ms": "<number>", "total_steps": 4,
                "steps": ["<each>", {"step_ms": "<number>", "tokens": "<integer>", "loss": "<number>"}],
                "peak_memory_bytes?": "<integer>", "device": "<string>", "estimated_total_seconds": "<number>",
            }),
        ),
        pair("runs_list", "GET /api/runs", Value::Null, 200, json!([run_row(false)])),
        pair("runs_list", "GET /api/runs?colour=1", Value::Null, 400, unknown("query")),
        pair("runs_get", "GET /api/runs/$job", Value::Null, 200, run_row(true)),
        pair(
            "runs_history",
            "GET /api/runs/$job/history?limit=5",
            Value::Null,
            200,
            json!(["<each>", event]),
        ),
        pair("runs_history", "GET /api/runs/train_xyz/history", Value::Null, 404, no_run()),
        pair("runs_events", "GET /api/runs/$job/events?after=3", Value::Null, 200, json!(["<each>", event])),
        pair("runs_events", "GET /api/runs/train_xyz/events", Value::Null, 404, no_run()),
        pair(
            "runs_curve",
            "GET /api/runs/$job/curve",
            Value::Null,
            200,
            json!({
                "after": "<integer>",
                "steps": {
                    "stride": "<integer>", "step": "<array>", "epoch": "<array>", "elapsed_ms": "<array>", "held": "<array>",
                    "columns": {
                        "grad_norm": column, "learning_rate": column, "loss": column, "tokens_per_second": column,
                        "…": "",
                    },
                },
                "last": event, "events": ["<each>", event],
            }),
        ),
        pair("runs_curve", "GET /api/runs/train_xyz/curve", Value::Null, 404, no_run()),
        pair(
            "datasets_check",
            "POST /api/datasets/check",
            json!({"dataset": "$bad"}),
            200,
            json!({
                "task": "text-generation", "path": "$bad", "format": "jsonl", "form": "<string>", "bytes": "<integer>",
                "rows": 2, "usable_rows": 1, "columns": ["input", "output"],
                "errors": [{"line": 2, "row": 2, "field": "output", "message": "<string>"}], "error_count": 1,
            }),
        ),
        pair(
            "datasets_check",
            "POST /api/datasets/check",
            json!({"dataset": "$home/none.jsonl"}),
            400,
            detail("Dataset validation failed: File not found"),
        ),
        pair(
            "datasets_preview",
            "POST /api/datasets/preview",
            json!({"dataset": "$rows", "rows": 2}),
            200,
            json!({
                "task": "text-generation",
                "rows": ["<each>", {
                    "row": "<integer>", "text": "<string>",
                    "tokens": ["<each>", {"id": "<integer>", "text": "<string>", "trained": "<bool>", "special": "<bool>"}],
                    "cut_tokens": 0,
                }],
            }),
        ),
        pair(
            "datasets_preview",
            "POST /api/datasets/preview",
            json!({"dataset": "$rows", "rows": 0}),
            400,
            field("body", "rows", "value_error", "<string>"),
        ),
        pair(
            "datasets_list",
            "GET /api/datasets",
            Value::Null,
            200,
            json!(["<each>", {
                "name": "<string>", "path": "<string>", "task": "text-generation", "format": "jsonl", "rows": "<integer>",
                "usable_rows": "<integer>", "bytes": "<integer>", "checked_at": "<time>", "exists": true,
            }]),
        ),
        pair("datasets_list", "GET /api/datasets?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "datasets_samples",
            "GET /api/datasets/samples",
            Value::Null,
            200,
            json!(["<each>", {
                "dataset": "sample:<rest>", "title": "<string>", "task": "<string>", "strategy": "<string>", "path": "<string>",
                "heldout_path": "<string>",
            }]),
        ),
        pair("datasets_samples", "GET /api/datasets/samples?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "playground_stream",
            "POST /api/playground/stream",
            json!({"model_id": "$model", "messages": said, "params": params}),
            200,
            json!(["<each>", {"type": "<text|done>", "text": "<string>", "stats?": stats}]),
        ),
        pair(
            "playground_stream",
            "POST /api/playground/stream",
            json!({"model_id": "model_xyz", "messages": said, "params": params}),
            404,
            no_model(),
        ),
        pair(
            "playground_stream",
            "POST /api/playground/stream",
            json!({"model_id": "$model", "messages": []}),
            400,
            field("body", "messages", "value_error", "<string>"),
        ),
        pair(
            "playground_status",
            "GET /api/playground/status",
            Value::Null,
            200,
            json!({
                "model_id": "$model",
                "model": {"architecture": "<string>", "parameters": "<integer>", "context_length": 512, "device": "<string>"},
                "answering": false,
            }),
        ),
        pair("playground_status", "GET /api/playground/status?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "playground_cancel",
            "POST /api/playground/cancel",
            Value::Null,
            200,
            done("No answer is under way"),
        ),
        pair("playground_cancel", "POST /api/playground/cancel", json!({"colour": 1}), 400, unknown("body")),
        pair(
            "playground_unload",
            "POST /api/playground/unload",
            Value::Null,
            200,
            done("No model is in memory"),
        ),
        pair("playground_unload", "POST /api/playground/unload", json!({"colour": 1}), 400, unknown("body")),
        pair(
            "conversations_put",
            "PUT /api/conversations",
            json!({"model": "$model", "messages": said, "system_prompt": "Be brief."}),
            200,
            conversation("<string as $conversation>").1,
        ),
        pair(
            "conversations_put",
            "PUT /api/conversations",
            json!({"model": "$model"}),
            400,
            missing("messages"),
        ),
        pair(
            "conversations_put",
            "PUT /api/conversations",
            json!({"id": "chat_xyz", "model": "$model", "messages": said}),
            404,
            no_conversation(),
        ),
        pair(
            "conversations_list",
            "GET /api/conversations",
            Value::Null,
            200,
            json!([conversation("$conversation").0]),
        ),
        pair("conversations_list", "GET /api/conversations?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "conversations_get",
            "GET /api/conversations/$conversation",
            Value::Null,
            200,
            conversation("$conversation").1,
        ),
        pair("conversations_get", "GET /api/conversations/chat_xyz", Value::Null, 404, no_conversation()),
        pair(
            "conversations_delete",
            "DELETE /api/conversations/$conversation",
            Value::Null,
            200,
            done("Conversation $conversation deleted successfully"),
        ),
        pair(
            "conversations_delete",
            "DELETE /api/conversations/$conversation",
            Value::Null,
            404,
            detail("Conversation $conversation not found"),
        ),
        pair("settings_get", "GET /api/settings", Value::Null, 200, settings(false, 15)),
        pair("settings_get", "GET /api/settings?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "settings_set",
            "PUT /api/settings",
            json!({"offline": true, "unload_after_minutes": 5}),
            200,
            settings(true, 5),
        ),
        pair(
            "settings_set",
            "PUT /api/settings",
            json!({"theme": "red"}),
            400,
            field(
                "body",
                "theme",
                "value_error",
                "Invalid theme: red. Must be one of ['system', 'light', 'dark']",
            ),
        ),
        pair("settings_get", "GET /api/settings", Value::Null, 200, settings(true, 5)),
        pair(
            "storage_usage",
            "GET /api/storage",
            Value::Null,
            200,
            json!({
                "home": "$home", "models_bytes": "<integer>", "runs_bytes": "<integer>", "datasets_bytes": "<integer>",
                "database_bytes": "<integer>", "cache": "<string|null>", "cache_bytes": "<integer>", "cached": "<array>",
                "exports_bytes": "<integer>",
                "spare": ["<each>", {
                    "kind": "<checkpoints|run|export|base_model|download>", "id": "<string>", "name": "<string>",
                    "bytes": "<integer>", "path": "<string>",
                }],
            }),
        ),
        pair("storage_usage", "GET /api/storage?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "hardware_load",
            "GET /api/hardware/load",
            Value::Null,
            200,
            json!({
                "cpu_percent": "<number>", "memory_used_bytes": "<integer>", "memory_total_bytes": "<integer>",
                "gpus": "<array>",
            }),
        ),
        pair(
            "storage_free",
            "POST /api/storage/free",
            json!({"kind": "checkpoints", "id": "$job"}),
            200,
            json!({"success": true, "freed_bytes": "<integer>"}),
        ),
        pair(
            "storage_free",
            "POST /api/storage/free",
            json!({"kind": "checkpoints", "id": "$job"}),
            404,
            detail("<string>"),
        ),
        pair(
            "storage_free",
            "POST /api/storage/free",
            json!({"kind": "all"}),
            400,
            json!({"detail": "<array>"}),
        ),
        pair("hardware_load", "GET /api/hardware/load?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "hardware_cards",
            "GET /api/hardware/cards",
            Value::Null,
            200,
            json!({
                "driver_version": "<string|null>", "cuda_version": "<string|null>", "cards": "<array>",
                "engine": "<bool>", "computes_on": "<string|null>", "reason": "<string|null>",
            }),
        ),
        pair("hardware_cards", "GET /api/hardware/cards?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "app_changes",
            "GET /api/changes",
            Value::Null,
            200,
            ["runs", "models", "datasets", "conversations", "settings", "hub", "playground"]
                .map(|topic| json!({"topic": topic, "id": null}))
                .into_iter()
                .collect(),
        ),
        pair("app_changes", "GET /api/changes?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "models_manifest",
            "GET /api/models/$model/manifest",
            Value::Null,
            200,
            json!({
                "model_id": "$model", "job_id": "$job", "base_model": "modelforge/starter", "base_path": "<string>",
                "base_here": true, "dataset": "$rows", "dataset_path": "$rows", "dataset_here": true,
                "seed": "<integer>", "steps": "<integer>", "tokens": "<integer>", "seconds": "<number>",
                "train_rows": "<integer>", "eval_rows": "<integer>", "answered_rows": null,
                "base_metrics": {"eval_loss": "<number>", "perplexity": "<number>"}, "best_step": null, "versions": "<object>",
                "files": ["<each>", {"path": "<string>", "bytes": "<integer>", "sha256": "<string>"}],
            }),
        ),
        pair("models_manifest", "GET /api/models/model_xyz/manifest", Value::Null, 404, no_model()),
        pair(
            "models_origin",
            "GET /api/models/$model/origin",
            Value::Null,
            200,
            json!({
                "same": true, "differences": [], "download": false, "version_then": env!("CARGO_PKG_VERSION"),
                "version_now": env!("CARGO_PKG_VERSION"),
            }),
        ),
        pair("models_origin", "GET /api/models/model_xyz/origin", Value::Null, 404, no_model()),
        pair(
            "models_train_again",
            "POST /api/models/$model/train_again",
            json!({}),
            200,
            json!({
                "success": true, "message": "Training started successfully", "job_id": "<string as $again>",
            }),
        ),
        pair("models_train_again", "POST /api/models/model_xyz/train_again", Value::Null, 404, no_model()),
        wait(
            "finetune_status",
            "GET /api/finetune/status",
            status("running", json!("<integer>"), "Training epoch <rest>", Value::Null),
        ),
        pair(
            "runs_stop",
            "POST /api/runs/$again/stop",
            json!({"keep": false}),
            200,
            done("$again is thrown away"),
        ),
        wait(
            "finetune_status",
            "GET /api/finetune/status",
            status("idle", json!(0), "No training in progress", Value::Null),
        ),
        pair(
            "models_delete",
            "DELETE /api/models/$model",
            Value::Null,
            200,
            done("Model $model deleted successfully"),
        ),
        pair(
            "models_delete",
            "DELETE /api/models/$model",
            Value::Null,
            404,
            detail("Model $model not found"),
        ),
        pair("runs_delete", "DELETE /api/runs/$job", Value::Null, 200, done("Run $job deleted successfully")),
        pair("runs_delete", "DELETE /api/runs/$job", Value::Null, 404, detail("Training run $job not found")),
    ]
}
