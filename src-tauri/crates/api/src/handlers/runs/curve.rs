//! `runs_curve`.

use std::sync::Arc;

pub use store::RunCurve as Output;
use types::ApiError;

pub use super::get::Input;
use crate::Api;

/// A few thousand points of however many steps; `runs_events` goes on after them.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let store = api.store_handle();
    Ok(crate::blocking(move || store.curve(&input.job_id)).await??)
}
