//! `playground_status`.

use std::sync::Arc;

use types::ApiError;

pub use super::cancel::Input;
use crate::Api;
pub use crate::playground::PlaygroundStatus as Output;

/// Tells which model is in memory and whether it answers.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.playground().status())
}
