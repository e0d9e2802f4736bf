//! A run and its orders.

use serde_json::{Value, json};

use super::{Pair, detail, done, field, missing, no_run, pair, run, status, task, unknown, wait};

/// A run with its orders, from its start to its model.
pub fn training() -> Vec<Pair> {
    let start = "POST /api/finetune/start_training";
    let state = "GET /api/finetune/status";
    let long = || run(json!({"max_steps": 5000, "save_steps": 5000, "eval_steps": 5000}));
    let started = |message: &str, id: &str| json!({"success": true, "message": message, "job_id": id});
    let at_work = || status("running", json!("<integer>"), "Training epoch <rest>", Value::Null);
    let completed = || status("completed", json!(100), "Training completed successfully", Value::Null);
    let idle = || status("idle", json!(0), "No training in progress", Value::Null);
    let other = "Model acme/none is not accessible. Please check if you have the required permissions.<rest>";
    let missing_row = "Dataset validation failed: line 2: missing field \"output\"<rest>";
    vec![
        pair(
            "finetune_start_training",
            start,
            run(json!({"dataset": "$home/none.jsonl"})),
            400,
            detail("Dataset validation failed: File not found"),
        ),
        pair("finetune_start_training", start, run(json!({"dataset": "$bad"})), 400, detail(missing_row)),
        pair("finetune_start_training", start, run(json!({"model_name": "acme/none"})), 403, detail(other)),
        pair("finetune_start_training", start, run(json!({"task": "xyz"})), 400, task("body")),
        pair(
            "finetune_start_training",
            start,
            run(json!({"lora_r": 0})),
            400,
            field("body", "lora_r", "value_error", "<string>"),
        ),
        pair(
            "finetune_start_training",
            start,
            run(json!({"learning_rate": "fast"})),
            400,
            field("body", "learning_rate", "type_error", "<string>"),
        ),
        pair("finetune_start_training", start, run(json!({"colour": 1})), 400, unknown("body")),
        pair(
            "finetune_start_training",
            start,
            long(),
            200,
            started("Training started successfully", "<string as $job>"),
        ),
        wait("finetune_status", state, at_work()),
        pair(
            "finetune_start_training",
            start,
            run(json!({})),
            400,
            detail("Training already in progress: $job"),
        ),
        pair("finetune_dry_run", "POST /api/finetune/dry_run", run(json!({})), 400, detail("<string>")),
        pair("queue_add", "POST /api/queue", run(json!({})), 200, started("<string>", "<string as $waits>")),
        pair("queue_add", "POST /api/queue", run(json!({"colour": 1})), 400, unknown("body")),
        pair("queue_get", "GET /api/queue", Value::Null, 200, json!({"held": false, "runs": ["$waits"]})),
        pair("queue_get", "GET /api/queue?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "queue_place",
            "POST /api/queue/$waits/place",
            json!({"place": 3}),
            200,
            done("$waits waits at place 1 of the queue"),
        ),
        pair("queue_place", "POST /api/queue/train_xyz/place", json!({"place": 1}), 404, no_run()),
        pair("queue_hold", "POST /api/queue/hold", json!({"held": true}), 200, done("The queue is held")),
        pair("queue_hold", "POST /api/queue/hold", json!({"held": false}), 200, done("The queue goes on")),
        pair("queue_hold", "POST /api/queue/hold", json!({}), 400, missing("held")),
        pair(
            "queue_remove",
            "DELETE /api/queue/$waits",
            Value::Null,
            200,
            done("$waits is taken out of the queue"),
        ),
        pair("queue_remove", "DELETE /api/queue/train_xyz", Value::Null, 404, no_run()),
        pair(
            "runs_delete",
            "DELETE /api/runs/$job",
            Value::Null,
            400,
            detail("Training run $job is active. Stop it first."),
        ),
        pair("runs_pause", "POST /api/runs/$job/pause", json!({}), 200, done("$job pauses after this step")),
        wait(
            "finetune_status",
            state,
            status("idle", json!("<integer>"), "Training paused at step <rest>", Value::Null),
        ),
        pair("runs_pause", "POST /api/runs/$job/pause", Value::Null, 400, detail("<string>")),
        pair("runs_pause", "POST /api/runs/train_xyz/pause", Value::Null, 404, no_run()),
        pair(
            "runs_resume",
            "POST /api/runs/$job/resume",
            Value::Null,
            200,
            started("Training resumed successfully", "$job"),
        ),
        pair(
            "runs_resume",
            "POST /api/runs/$job/resume",
            Value::Null,
            400,
            detail("Training already in progress: $job"),
        ),
        pair("runs_resume", "POST /api/runs/train_xyz/resume", Value::Null, 404, no_run()),
        // Before the first step, there is no model to keep.
        wait(
            "runs_get",
            "GET /api/runs/$job",
            json!({
                "job_id": "$job", "model_id": "<string>", "name": "test", "base_model": "modelforge/starter",
                "dataset": "$rows", "task": "text-generation", "strategy": "sft", "created_at": "<time>",
                "status": "running", "place": null, "phase": "<string|null>", "download": null, "step": "<integer>",
                "total_steps": "<integer>", "epoch": "<number|null>", "num_train_epochs": 3, "loss": "<number>", "…": "",
            }),
        ),
        pair(
            "runs_stop",
            "POST /api/runs/$job/stop",
            json!({"keep": true}),
            200,
            done("$job ends after this step; its model is kept"),
        ),
        wait("finetune_status", state, completed()),
        pair(
            "runs_stop",
            "POST /api/runs/$job/stop",
            json!({"keep": "yes"}),
            400,
            field("body", "keep", "type_error", "<string>"),
        ),
        pair("runs_stop", "POST /api/runs/train_xyz/stop", json!({"keep": false}), 404, no_run()),
        pair(
            "runs_resume",
            "POST /api/runs/$job/resume",
            Value::Null,
            400,
            detail("$job is finished: <rest>"),
        ),
        pair(
            "finetune_reset_status",
            "POST /api/finetune/reset_status",
            json!({}),
            200,
            done("Training status reset successfully"),
        ),
        pair(
            "finetune_reset_status",
            "POST /api/finetune/reset_status",
            json!({"colour": 1}),
            400,
            unknown("body"),
        ),
        pair("finetune_status", state, Value::Null, 200, idle()),
        pair(
            "finetune_start_training",
            start,
            long(),
            200,
            started("Training started successfully", "<string as $thrown>"),
        ),
        wait("finetune_status", state, at_work()),
        pair(
            "runs_stop",
            "POST /api/runs/$thrown/stop",
            json!({"keep": false}),
            200,
            done("$thrown is thrown away"),
        ),
        wait("finetune_status", state, idle()),
        pair("runs_get", "GET /api/runs/$thrown", Value::Null, 404, detail("Training run $thrown not found")),
    ]
}
