//! `models_list`.

use std::sync::Arc;

use store::table::models::ModelRow;
use types::{ApiError, field::Field, fields};

use crate::Api;

fields! {
    /// Nothing.
    pub struct Input {}
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The newest first.
pub type Output = Vec<ModelRow>;

/// Folders that came or went since are taken into account.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().models()?)
}
