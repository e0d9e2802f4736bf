//! `datasets_preview`.

use std::sync::Arc;

use data::Tokenizer;
use schemars::JsonSchema;
use serde::Serialize;
use store::{BaseModel, STARTER};
use types::{
    ApiError, Task,
    dataset::PreviewRow,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A dataset and the model that is to see it.
    pub struct Input {
        dataset: String, Kind::Text, Fallback::Required, "The dataset file, or sample:<name> for one that ships with the app.";
        task: Option<Task>, Kind::Choice { values: Task::NAMES }, Fallback::Found("the first task that the rows' fields fit"), "What the model is to do.";
        model_name: String, Kind::Text, Fallback::Text(STARTER), "The model whose tokenizer and chat template are used; it must be on this machine.";
        rows: usize, Kind::Int { min: 1, max: 100 }, Fallback::Int(3), "How many rows.";
        max_seq_length: usize, Kind::Int { min: 8, max: 1 << 20 }, Fallback::Int(2048), "Longer rows are cut to this many tokens.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Rows as the model sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// The task they are shown for.
    pub task: Task,
    /// The first rows that can be trained on.
    pub rows: Vec<PreviewRow>,
}

/// Tokenizes the first rows.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let task = match input.task {
        Some(task) => task,
        None => api.check_dataset(&input.dataset, None, None, 0).await?.1,
    };
    let path = api.dataset_path(&input.dataset)?;
    let base = BaseModel::find(&input.model_name, api.resources())?;
    let preview = move || {
        let tokenizer = Tokenizer::load(&base.dir)?;
        data::preview(&path, task, &tokenizer, input.max_seq_length, input.rows)
    };
    let rows = crate::blocking(preview).await?.map_err(|e| ApiError::bad_request(e.to_string()))?;
    Ok(Output { task, rows })
}
