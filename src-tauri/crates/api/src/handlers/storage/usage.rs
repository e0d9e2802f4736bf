//! `storage_usage`.

use std::sync::Arc;

pub use store::StorageUsage as Output;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// Counts the files.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let store = api.store_handle();
    Ok(crate::blocking(move || store.usage()).await??)
}
