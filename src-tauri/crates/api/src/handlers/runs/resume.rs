//! `runs_resume`.

use std::sync::Arc;

use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;
pub use crate::handlers::finetune::start_training::Output;

fields! {
    /// A run by its id, and whether it may wait.
    pub struct Input {
        job_id: String, Kind::Text, Fallback::Required, "The run's id.";
        queue: bool, Kind::Bool, Fallback::Bool(false), "Has it wait for its turn where another run is under way, which is an error otherwise.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Goes on at the last checkpoint, in the background.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let job_id = input.job_id;
    if input.queue {
        api.queue_run(&job_id).await?;
    } else {
        api.resume_in_background(&job_id).await?;
    }
    let message = match api.store().queue()?.place(&job_id) {
        Some(place) => format!("{job_id} waits at place {place} of the queue"),
        None => "Training resumed successfully".into(),
    };
    Ok(Output { success: true, message, job_id })
}
