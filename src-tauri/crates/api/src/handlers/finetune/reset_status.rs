//! `finetune_reset_status`.

use std::sync::Arc;

use types::ApiError;

pub use super::session::Input;
pub use crate::handlers::Done as Output;
use crate::Api;

/// Forgets which run the status was about.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    api.store().set_current_run(None)?;
    Ok(Output::new("Training status reset successfully"))
}
