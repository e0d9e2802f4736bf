//! `runs_stop`.

use std::sync::Arc;

use types::{
    ApiError,
    engine::Control,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;
pub use crate::handlers::Done as Output;

fields! {
    /// A run by its id, and what becomes of it.
    pub struct Input {
        job_id: String, Kind::Text, Fallback::Required, "The run's id.";
        keep: bool, Kind::Bool, Fallback::Bool(true), "Makes the model as it is now; false throws the run away with its checkpoints.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Keeping needs an engine that is at work; throwing away does not.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let id = input.job_id;
    if input.keep {
        api.order(&id, Control::Finish)?;
        return Ok(Output::new(format!("{id} ends after this step; its model is kept")));
    }
    api.discard(&id).await?;
    Ok(Output::new(format!("{id} is thrown away")))
}
