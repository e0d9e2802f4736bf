//! `finetune_start_training`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;
pub use types::TrainingConfig as Input;

use crate::Api;

/// The run is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true.
    pub success: bool,
    /// A sentence for the person.
    pub message: String,
    /// The run's id.
    pub job_id: String,
}

/// Starts the run and follows it in the background; a model that is not on this machine is downloaded first.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let job_id = api.start_in_background(input).await?;
    Ok(Output { success: true, message: "Training started successfully".into(), job_id })
}
