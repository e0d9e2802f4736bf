//! `finetune_catalogue`.

use std::sync::Arc;

pub use hardware::Recommendation as Output;
use types::ApiError;

pub use super::validate_task::Input;
use crate::Api;

/// The recommendation with all of its numbers.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.recommend(input.task).await
}
