//! `playground_model_path`.

use std::{path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

use crate::Api;
pub use crate::handlers::models::get::Input;

/// Where the model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Its folder.
    pub model_path: PathBuf,
    /// Its id.
    pub model_id: String,
}

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let model_path = api.model_folder(&input.model_id)?;
    Ok(Output { model_path, model_id: input.model_id })
}
