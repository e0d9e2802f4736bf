//! `conversations_list`.

use std::sync::Arc;

use store::table::conversations::ConversationRow;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The one written last first.
pub type Output = Vec<ConversationRow>;

/// Without their messages.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().conversations()?)
}
