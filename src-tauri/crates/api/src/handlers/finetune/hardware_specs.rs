//! `finetune_hardware_specs`.

use std::sync::Arc;

pub use hardware::Hardware as Output;
use types::ApiError;

pub use super::session::Input;
use crate::Api;

/// Asks the drivers and the system.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    api.hardware().await
}
