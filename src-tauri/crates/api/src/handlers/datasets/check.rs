//! `datasets_check`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError, Strategy, Task,
    dataset::DatasetReport,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A dataset and what it is for.
    pub struct Input {
        dataset: String, Kind::Text, Fallback::Required, "The dataset file, or sample:<name> for one that ships with the app.";
        task: Option<Task>, Kind::Choice { values: Task::NAMES }, Fallback::Found("the first task that the rows' fields fit"), "What the model is to do.";
        strategy: Option<Strategy>, Kind::Choice { values: Strategy::NAMES }, Fallback::Found("the first strategy that the rows' fields fit"), "How the weights are tuned.";
        errors: usize, Kind::Int { min: 0, max: 10_000 }, Fallback::Int(100), "The most bad rows to name.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// What a whole pass over the dataset found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// The task it was checked for.
    pub task: Task,
    /// What was found.
    #[serde(flatten)]
    pub report: DatasetReport,
}

/// Bad rows are a part of the answer; a file that cannot be read at all is a 400.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let (report, task) = api.check_dataset(&input.dataset, input.task, input.strategy, input.errors).await?;
    Ok(Output { task, report })
}
