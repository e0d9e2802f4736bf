//! `conversations_delete`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
use crate::Api;
pub use crate::handlers::Done as Output;

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    api.store().delete_conversation(&input.conversation_id)?;
    Ok(Output::new(format!("Conversation {} deleted successfully", input.conversation_id)))
}
