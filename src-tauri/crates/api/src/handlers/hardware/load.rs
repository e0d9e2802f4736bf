//! `hardware_load`.

use std::sync::Arc;

pub use ::hardware::Load as Output;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// Asks the system and the drivers; of the processor, it tells the time since the last such request.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let meter = Arc::clone(&api.load);
    crate::blocking(move || meter.measure()).await
}
