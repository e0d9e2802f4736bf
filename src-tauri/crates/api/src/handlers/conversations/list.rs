//! `conversations_list`.

use std::sync::Arc;

use store::table::conversations::ConversationRow;
use types::{ApiError, field::Field, fields};

use crate::Api;

fields! {
    /// Nothing.
    pub struct Input {}
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The one written last first.
pub type Output = Vec<ConversationRow>;

/// Without their messages.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().conversations()?)
}
