//! `finetune_validate_model`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A base model by its name.
    pub struct Input {
        selected_model: String, Kind::Text, Fallback::Required, "A Hub repository, a local folder, or modelforge/starter.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The model can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true: a model that cannot be reached is an error.
    pub valid: bool,
    /// The model.
    pub model: String,
}

/// Looks for the model on this machine first, then on the Hub.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.reach(&input.selected_model).await?;
    Ok(Output { valid: true, model: input.selected_model })
}
