//! `models_get`.

use std::sync::Arc;

use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;
pub use crate::ModelDetails as Output;

fields! {
    /// A finished model by its id.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "The model's id.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.model(&input.model_id)
}
