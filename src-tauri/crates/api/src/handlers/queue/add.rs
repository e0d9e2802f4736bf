//! `queue_add`.

use std::sync::Arc;

use types::ApiError;
pub use types::TrainingConfig as Input;

use crate::Api;
pub use crate::handlers::finetune::start_training::Output;

/// Everything is checked now, as for a run that starts at once.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let job_id = api.queue_training(input).await?;
    Ok(Output { success: true, message: api.begun_or_waits(&job_id)?, job_id })
}
