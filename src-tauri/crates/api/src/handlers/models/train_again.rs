//! `models_train_again`.

use std::sync::Arc;

use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;
pub use crate::handlers::finetune::start_training::Output;

fields! {
    /// A finished model that is to be made again.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "The model's id.";
        anyway: bool, Kind::Bool, Fallback::Bool(false), "Trains even where a file has changed since; another model comes out then.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// 404 for an unknown id, 400 where the same model would not come out.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let job_id = api.train_again(&input.model_id, input.anyway).await?;
    Ok(Output { success: true, message: api.begun_or_waits(&job_id)?, job_id })
}
