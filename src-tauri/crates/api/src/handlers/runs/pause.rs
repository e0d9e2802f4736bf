//! `runs_pause`.

use std::sync::Arc;

use types::{ApiError, engine::Control};

pub use super::get::Input;
use crate::Api;
pub use crate::handlers::Done as Output;

/// The engine takes the order up after the step under way.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.order(&input.job_id, Control::Pause)?;
    Ok(Output::new(format!("{} pauses after this step", input.job_id)))
}
