//! `app_health`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The app answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always `ok`: what is not is an error.
    pub status: String,
}

/// Reads the database.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    api.store().session()?;
    Ok(Output { status: "ok".into() })
}
