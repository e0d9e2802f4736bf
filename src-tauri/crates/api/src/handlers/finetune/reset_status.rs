//! `finetune_reset_status`.

use std::sync::Arc;

use types::ApiError;

pub use super::session::Input;
use crate::Api;
pub use crate::handlers::Done as Output;

/// Forgets which run the status was about.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    api.store().set_current_run(None)?;
    Ok(Output::new("Training status reset successfully"))
}
