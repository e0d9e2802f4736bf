//! `runs_resume`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
use crate::Api;
pub use crate::handlers::finetune::start_training::Output;

/// Goes on at the last checkpoint, in the background.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.resume_in_background(&input.job_id).await?;
    Ok(Output { success: true, message: "Training resumed successfully".into(), job_id: input.job_id })
}
