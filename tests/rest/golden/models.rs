//! Finished models, talking to them and pushing them.

use serde_json::{Value, json};

use super::{Pair, detail, field, missing, no_model, pair, task, unknown};

/// What can be done with the model that was made.
pub fn models() -> Vec<Pair> {
    let new = "POST /api/playground/new";
    let prompt = json!({"model_id": "$model", "prompt": "What is box 3?", "max_length": 8, "temperature": 0.7, "top_p": 0.9});
    let push = "POST /api/hub/push";
    let export = "POST /api/models/$model/export";
    let pushed = json!({"model_id": "$model", "repo_name": "alice/golden", "private": false});
    let row = |with_path: bool| {
        let mut row = json!({
            "model_id": "<string as $model>", "name": "test", "base_model": "modelforge/starter",
            "task": "text-generation", "strategy": "sft", "created_at": "<time>", "size_mb": "<number>",
            "path": "<string as $path>",
        });
        let fields = row.as_object_mut().unwrap();
        if !with_path {
            let left_out = ["strategy", "size_mb", "path"];
            fields.retain(|key, _| !left_out.contains(&key.as_str()));
        }
        row
    };
    vec![
        pair("models_list", "GET /api/models/", Value::Null, 200, json!([row(true)])),
        pair("models_list", "GET /api/models", Value::Null, 200, json!([row(true)])),
        pair("models_list", "GET /api/models/?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "models_get",
            "GET /api/models/$model",
            Value::Null,
            200,
            json!({
                "model_id": "$model", "name": "test", "base_model": "modelforge/starter", "task": "text-generation",
                "strategy": "sft", "provider": "huggingface", "created_at": "<time>", "size_mb": "<number>",
                "path": "$path", "config": "<object>", "metrics": {"eval_loss": "<number>", "final_loss": "<number>", "perplexity": "<number>"},
            }),
        ),
        pair("models_get", "GET /api/models/model_xyz", Value::Null, 404, no_model()),
        pair("models_by_task", "GET /api/models/task/text-generation", Value::Null, 200, json!([row(false)])),
        pair("models_by_task", "GET /api/models/task/summarization", Value::Null, 200, json!([])),
        pair("models_by_task", "GET /api/models/task/xyz", Value::Null, 400, task("path")),
        pair(
            "playground_model_path",
            "GET /api/playground/model_path?model_id=$model",
            Value::Null,
            200,
            json!({"model_path": "$path", "model_id": "$model"}),
        ),
        pair(
            "playground_model_path",
            "GET /api/playground/model_path?model_id=model_xyz",
            Value::Null,
            404,
            no_model(),
        ),
        pair(
            "playground_model_path",
            "GET /api/playground/model_path",
            Value::Null,
            400,
            field("query", "model_id", "missing", "<string>"),
        ),
        pair(
            "playground_new",
            new,
            prompt,
            200,
            json!({
                "generated_text": "<string>", "prompt": "What is box 3?", "tokens_generated": "<integer>",
                "generation_time_ms": "<integer>",
            }),
        ),
        pair("playground_new", new, json!({"model_id": "model_xyz", "prompt": "a"}), 404, no_model()),
        pair(
            "playground_new",
            new,
            json!({"model_id": "acme/none", "prompt": "a"}),
            403,
            detail(
                "Model acme/none is not accessible. Please check if you have the required permissions.<rest>",
            ),
        ),
        pair(
            "playground_new",
            new,
            json!({"model_id": "$model", "prompt": "a", "top_p": 2}),
            400,
            field("body", "top_p", "value_error", "<string>"),
        ),
        pair(
            "models_export",
            export,
            json!({"format": "gguf", "dtype": "f32"}),
            200,
            json!(["<each>", {"type": "<progress|done>", "…": ""}]),
        ),
        pair(
            "models_export",
            export,
            json!({"format": "gguf", "dtype": "q8_0", "folder": null}),
            200,
            json!(["<each>", {"type": "<progress|done>", "…": ""}]),
        ),
        pair("models_export", export, json!({}), 400, missing("format")),
        pair(
            "models_export",
            export,
            json!({"format": "safetensors", "dtype": "q8_0"}),
            400,
            field("body", "dtype", "value_error", "q8_0 is for gguf; safetensors takes f16, bf16 and f32"),
        ),
        pair(
            "models_export",
            export,
            json!({"format": "safetensors", "folder": "$home/nothing"}),
            400,
            field(
                "body",
                "folder",
                "value_error",
                "$home/nothing is no folder of this computer; make it first",
            ),
        ),
        pair(
            "models_export",
            "POST /api/models/model_xyz/export",
            json!({"format": "safetensors"}),
            404,
            no_model(),
        ),
        pair("hub_push", push, pushed.clone(), 403, detail("<string>")),
        pair(
            "hub_set_token",
            "PUT /api/hub/token",
            json!({"token": "hf_alice"}),
            200,
            json!({"success": true, "message": "<string>", "source": "memory"}),
        ),
        pair("hub_set_token", "PUT /api/hub/token", json!({}), 400, missing("token")),
        pair(
            "hub_push",
            push,
            pushed.clone(),
            200,
            json!({"success": true, "message": "Model pushed to HuggingFace Hub successfully", "repo_url": "$hub/alice/golden"}),
        ),
        pair("hub_push", push, pushed, 400, detail("the repository alice/golden exists already<rest>")),
        pair("hub_push", push, json!({"model_id": "model_xyz", "repo_name": "alice/new"}), 404, no_model()),
        pair("hub_push", push, json!({"model_id": "$model"}), 400, missing("repo_name")),
        pair(
            "hub_upload",
            "POST /api/hub/upload",
            json!({"model_id": "$model", "repo_name": "alice/sent"}),
            200,
            json!(["<each>", {"type": "<sending|done>", "…": ""}]),
        ),
        pair("hub_upload", "POST /api/hub/upload", json!({"model_id": "$model"}), 400, missing("repo_name")),
        pair(
            "hub_token_places",
            "GET /api/hub/token/places",
            Value::Null,
            200,
            json!(["<each>", {"place": "<string>", "state": "<in_use|another|empty|locked|missing|exposed>"}]),
        ),
        pair("hub_token_places", "GET /api/hub/token/places?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "hub_whoami",
            "GET /api/hub/whoami",
            Value::Null,
            200,
            json!({
                "source": "memory",
                "account": {"name": "alice", "fullname": "alice Example", "kind": "user", "organizations": ["acme"], "token_role": "write"},
            }),
        ),
        pair("hub_whoami", "GET /api/hub/whoami?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "hub_clear_token",
            "DELETE /api/hub/token",
            Value::Null,
            200,
            json!({"success": true, "message": "<string>", "source": "none"}),
        ),
        pair("hub_clear_token", "DELETE /api/hub/token?colour=1", Value::Null, 400, unknown("query")),
        pair(
            "hub_whoami",
            "GET /api/hub/whoami",
            Value::Null,
            200,
            json!({"source": "none", "account": null}),
        ),
    ]
}
