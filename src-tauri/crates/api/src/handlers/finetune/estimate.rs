//! `finetune_estimate`.

use std::sync::Arc;

use types::ApiError;
pub use types::TrainingConfig as Input;

use crate::Api;
pub use crate::Estimate as Output;

/// Nothing is started; a run that is active does not matter.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.estimate(input).await
}
