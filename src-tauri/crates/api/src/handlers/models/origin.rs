//! `models_origin`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
use crate::Api;
pub use crate::again::ModelOrigin as Output;

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.origin(&input.model_id).await
}
