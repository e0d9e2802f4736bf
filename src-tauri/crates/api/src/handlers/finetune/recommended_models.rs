//! `finetune_recommended_models`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{ApiError, Profile, Task};

pub use super::validate_task::Input;
use crate::Api;

/// Models for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// The task.
    pub task: Task,
    /// The model to start with.
    pub recommended_model: String,
    /// All models that fit, the one to try first at the front.
    pub possible_models: Vec<String>,
    /// The class of machine.
    pub compute_profile: Profile,
}

/// Recommends what this version trains and this machine holds.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let found = api.recommend(input.task).await?;
    Ok(Output {
        task: found.task,
        recommended_model: found.recommended,
        possible_models: found.possible.into_iter().map(|possible| possible.model.name).collect(),
        compute_profile: found.profile,
    })
}
