//! `finetune_dry_run`.

use std::sync::Arc;

use types::ApiError;
pub use types::{TrainingConfig as Input, engine::ProbeReport as Output};

use crate::Api;

/// Refused while a run is active: both would be slowed down, and neither measured.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.probe(input).await
}
