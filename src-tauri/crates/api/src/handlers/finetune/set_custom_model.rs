//! `finetune_set_custom_model`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

pub use super::validate_custom_model::Input;
use crate::Api;

/// The repository can be read and the choice is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true.
    pub success: bool,
    /// The model.
    pub selected_model: String,
    /// A sentence for the person.
    pub message: String,
    /// Always true: a repository that cannot be read is an error.
    pub valid: bool,
    /// The repository.
    pub repo_name: String,
}

/// Nothing is kept of a repository that cannot be read.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.custom_model(&input.repo_name).await?;
    api.choose_model(&input.repo_name, true)?;
    Ok(Output {
        success: true,
        selected_model: input.repo_name.clone(),
        message: "Custom model validated and saved successfully".into(),
        valid: true,
        repo_name: input.repo_name,
    })
}
