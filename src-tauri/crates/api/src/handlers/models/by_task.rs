//! `models_by_task`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

use crate::Api;
pub use crate::handlers::finetune::validate_task::Input;

/// One finished model, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelShort {
    /// `model_YYYYMMDD_HHMMSS`.
    pub model_id: String,
    /// The name people see.
    pub name: String,
    /// What it was tuned from.
    pub base_model: String,
    /// The task.
    pub task: String,
    /// RFC 3339 UTC.
    pub created_at: String,
}

/// The newest first.
pub type Output = Vec<ModelShort>;

/// The list, for one task.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let rows = api.store().models_for(input.task)?;
    let short = |row: store::table::models::ModelRow| ModelShort {
        model_id: row.model_id,
        name: row.name,
        base_model: row.base_model,
        task: row.task,
        created_at: row.created_at,
    };
    Ok(rows.into_iter().map(short).collect())
}
