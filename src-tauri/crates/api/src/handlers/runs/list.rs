//! `runs_list`.

use std::sync::Arc;

use store::Run;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The newest first.
pub type Output = Vec<Run>;

/// Folders that came or went since are taken into account.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    // A log that is read for the first time can be long.
    let store = api.store_handle();
    let runs = crate::blocking(move || store.runs()).await??;
    Ok(runs.into_iter().map(|run| api.as_followed(run)).collect())
}
