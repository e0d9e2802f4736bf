//! `storage_usage`.

use std::sync::Arc;

pub use store::StorageUsage as Output;
use types::{ApiError, field::Field, fields};

use crate::Api;

fields! {
    /// Nothing.
    pub struct Input {}
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Counts the files.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let store = api.store_handle();
    Ok(crate::blocking(move || store.usage()).await??)
}
