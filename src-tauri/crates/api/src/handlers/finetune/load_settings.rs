//! `finetune_load_settings`.

use std::sync::Arc;

pub use hardware::Settings as Output;
use types::ApiError;

pub use super::session::Input;
use crate::Api;

/// The settings of the machine's class.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.hardware().await?.settings())
}
