//! `settings_get`.

use std::sync::Arc;

pub use store::table::settings::Settings as Output;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The defaults on a fresh start.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().settings()?)
}
