//! `conversations_get`.

use std::sync::Arc;

pub use store::table::conversations::Conversation as Output;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A conversation by its id.
    pub struct Input {
        conversation_id: String, Kind::Text, Fallback::Required, "The conversation's id.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    Ok(api.store().conversation(&input.conversation_id)?)
}
