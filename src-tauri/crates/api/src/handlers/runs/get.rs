//! `runs_get`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use store::{Run, StoreError};
use types::{
    ApiError, RunSpec,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A run by its id.
    pub struct Input {
        job_id: String, Kind::Text, Fallback::Required, "The run's id.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// A run, how it stands and what it was asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// How it stands.
    #[serde(flatten)]
    pub run: Run,
    /// What it was asked to do, every default filled in.
    pub spec: RunSpec,
}

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let (store, id) = (api.store_handle(), input.job_id);
    // A log that is read for the first time can be long.
    let read = move || Ok::<_, StoreError>(Output { run: store.run(&id)?, spec: store.run_spec(&id)? });
    let Output { run, spec } = crate::blocking(read).await??;
    Ok(Output { run: api.as_followed(run), spec })
}
