//! `queue_get`.

use std::sync::Arc;

pub use store::Queue as Output;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The ids alone: how each run stands is in the list of runs.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().queue()?)
}
