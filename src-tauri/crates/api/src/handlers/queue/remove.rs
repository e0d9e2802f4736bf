//! `queue_remove`.

use std::sync::Arc;

use types::ApiError;

use crate::Api;
pub use crate::handlers::{Done as Output, runs::get::Input};

/// A run that has checkpoints can be resumed later; one that never began is deleted.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.cancel_queued(&input.job_id).await?;
    Ok(Output::new(format!("{} is taken out of the queue", input.job_id)))
}
