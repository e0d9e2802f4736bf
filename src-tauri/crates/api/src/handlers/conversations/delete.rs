//! `conversations_delete`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
pub use crate::handlers::Done as Output;
use crate::{Api, Topic};

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.store().delete_conversation(&input.conversation_id)?;
    api.announce(Topic::Conversations, input.conversation_id.as_str());
    Ok(Output::new(format!("Conversation {} deleted successfully", input.conversation_id)))
}
