//! `runs_delete`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
pub use crate::handlers::Done as Output;
use crate::{Api, Topic};

/// 400 while it is under way.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let id = input.job_id;
    let store = api.store_handle();
    let folder = id.clone();
    crate::blocking(move || store.delete_run(&folder)).await??;
    api.announce(Topic::Runs, id.as_str());
    Ok(Output::new(format!("Run {id} deleted successfully")))
}
