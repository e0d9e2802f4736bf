//! `playground_unload`.

use std::sync::Arc;

use types::ApiError;

pub use super::cancel::Input;
use crate::Api;
pub use crate::handlers::Done as Output;

/// An answer that is under way is waited for.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    api.playground().unload().await?;
    Ok(Output::new("No model is in memory"))
}
