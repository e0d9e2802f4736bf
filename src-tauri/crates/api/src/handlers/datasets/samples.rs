//! `datasets_samples`.

use std::{path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use types::{ApiError, Strategy, Task};

pub use super::list::Input;
use crate::Api;

/// A dataset that ships with the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SampleDataset {
    /// As runs take it: `sample:<name>`.
    pub dataset: String,
    /// What people see.
    pub title: String,
    /// What it teaches.
    pub task: Task,
    /// How models learn from it.
    pub strategy: Strategy,
    /// The rows to train on.
    pub path: PathBuf,
    /// The rows to measure on; `sample:<name>` as `eval_dataset` stands for them.
    pub heldout_path: PathBuf,
}

/// By name.
pub type Output = Vec<SampleDataset>;

/// The samples among the app's files.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let samples = api.resources().samples()?;
    let row = |sample: store::Sample| SampleDataset {
        dataset: format!("sample:{}", sample.name),
        title: sample.title,
        task: sample.task,
        strategy: sample.strategy,
        path: sample.train,
        heldout_path: sample.heldout,
    };
    Ok(samples.into_iter().map(row).collect())
}
