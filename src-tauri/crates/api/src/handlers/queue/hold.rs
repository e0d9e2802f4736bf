//! `queue_hold`.

use std::sync::Arc;

use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;
pub use crate::handlers::Done as Output;

fields! {
    /// Whether what waits goes on waiting.
    pub struct Input {
        held: bool, Kind::Bool, Fallback::Required, "true: no waiting run begins by itself; false: they begin again.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// An empty queue cannot be held.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let held = api
        .rearrange(|queue| {
            queue.held = input.held && !queue.runs.is_empty();
            queue.held
        })
        .await?;
    Ok(Output::new(if held { "The queue is held" } else { "The queue goes on" }))
}
