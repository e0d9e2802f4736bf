//! `queue_place`.

use std::sync::Arc;

use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;
pub use crate::handlers::Done as Output;

fields! {
    /// A run that waits, and where it is to wait.
    pub struct Input {
        job_id: String, Kind::Text, Fallback::Required, "The run's id.";
        place: usize, Kind::Int { min: 1, max: 1_000_000 }, Fallback::Required, "1 for the next one to begin; a place beyond the end is the last.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// 404 for an unknown run, 400 for one that does not wait, or no more.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let id = input.job_id;
    api.store().run(&id)?;
    let waits = |queue: &mut store::Queue| {
        let waits = queue.place(&id).is_some();
        if waits {
            queue.put(&id, input.place);
        }
        queue.place(&id)
    };
    match api.rearrange(waits).await? {
        Some(place) => Ok(Output::new(format!("{id} waits at place {place} of the queue"))),
        None => Err(ApiError::bad_request(format!("{id} does not wait in the queue"))),
    }
}
