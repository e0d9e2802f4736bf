//! `finetune_reset_status`.

use std::sync::Arc;

use types::ApiError;

pub use super::session::Input;
pub use crate::handlers::Done as Output;
use crate::{Api, Topic};

/// Forgets which run the status was about.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    api.store().set_current_run(None)?;
    api.announce(Topic::Runs, None);
    Ok(Output::new("Training status reset successfully"))
}
