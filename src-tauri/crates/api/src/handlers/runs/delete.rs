//! `runs_delete`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
use crate::Api;
pub use crate::handlers::Done as Output;

/// 400 while it is under way.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let id = input.job_id;
    let store = api.store_handle();
    let folder = id.clone();
    crate::blocking(move || store.delete_run(&folder)).await??;
    Ok(Output::new(format!("Run {id} deleted successfully")))
}
