//! `app_changes`.

use std::sync::Arc;

use types::ApiError;

use crate::Api;
pub use crate::Change as Output;
use crate::Items;
pub use crate::handlers::Nothing as Input;

/// Begins with every topic: who comes, or comes again, cannot know what changed before. Ends when the listener leaves.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Items, ApiError> {
    Ok(api.listen())
}
