//! `settings_get`.

use std::sync::Arc;

pub use store::table::settings::Settings as Output;
use types::{ApiError, field::Field, fields};

use crate::Api;

fields! {
    /// Nothing.
    pub struct Input {}
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The defaults on a fresh start.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().settings()?)
}
