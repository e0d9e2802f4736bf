//! `runs_history`.

use std::sync::Arc;

use types::{
    ApiError, EventLine,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A run by its id, and which of its events.
    pub struct Input {
        job_id: String, Kind::Text, Fallback::Required, "The run's id.";
        after: Option<u64>, Kind::Int { min: 0, max: i64::MAX }, Fallback::Found("the beginning"), "Only events after the one with this number (seq).";
        limit: usize, Kind::Int { min: 1, max: 100_000 }, Fallback::Int(10_000), "The most events.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// From the oldest to the newest.
pub type Output = Vec<EventLine>;

/// What the run's event log holds.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let store = api.store_handle();
    Ok(crate::blocking(move || store.events_after(&input.job_id, input.after, input.limit)).await??)
}
