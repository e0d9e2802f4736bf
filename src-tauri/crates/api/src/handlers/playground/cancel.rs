//! `playground_cancel`.

use std::sync::Arc;

use types::{ApiError, field::Field, fields};

use crate::Api;
pub use crate::handlers::Done as Output;

fields! {
    /// Nothing.
    pub struct Input {}
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The stream still gets its end, with the text so far.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(Output::new(match api.playground().cancel() {
        true => "The answer is being ended",
        false => "No answer is under way",
    }))
}
