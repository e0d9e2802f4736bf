//! `finetune_validate_task`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError, Task,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A task by its name.
    pub struct Input {
        task: Task, Kind::Choice { values: Task::NAMES }, Fallback::Required, "What the model is to do.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The task exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true: an unknown task is an error.
    pub valid: bool,
    /// The task.
    pub task: Task,
}

/// What is no task has been refused before.
pub async fn run(_api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    Ok(Output { valid: true, task: input.task })
}
