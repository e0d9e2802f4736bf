//! `playground_cancel`.

use std::sync::Arc;

use types::ApiError;

use crate::Api;
pub use crate::handlers::Done as Output;
pub use crate::handlers::Nothing as Input;

/// The stream still gets its end, with the text so far.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(Output::new(match api.playground().cancel() {
        true => "The answer is being ended",
        false => "No answer is under way",
    }))
}
