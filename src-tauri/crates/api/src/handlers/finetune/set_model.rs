//! `finetune_set_model`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

pub use super::validate_model::Input;
use crate::Api;

/// The choice is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true.
    pub success: bool,
    /// The model.
    pub selected_model: String,
    /// A sentence for the person.
    pub message: String,
}

/// Keeps the choice over restarts. Whether the model can be reached is a question of its own (`validate_model`).
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.choose_model(&input.selected_model, false)?;
    Ok(Output {
        success: true,
        selected_model: input.selected_model,
        message: "Model selection saved successfully".into(),
    })
}
