//! A run as it is handed to an engine (`run.json`) and the result it ends with.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Inputs, TrainingConfig};

/// The name of the base model that ships with the app, wherever a model's name is taken.
pub const STARTER: &str = "modelforge/starter";

/// Everything an engine needs to know about a run. Written once into the job folder, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSpec {
    /// Version of this file's layout: [`RunSpec::VERSION`].
    pub version: u32,
    /// `train_YYYYMMDD_HHMMSS`.
    pub job_id: String,
    /// `model_YYYYMMDD_HHMMSS`, the id of the model this run makes.
    pub model_id: String,
    /// The checked settings, every default filled in.
    pub config: TrainingConfig,
    /// The folder of the base model.
    pub base_dir: PathBuf,
    /// The dataset file.
    pub dataset_path: PathBuf,
    /// A second file to evaluate on; without it `eval_split` takes rows from the dataset.
    pub eval_dataset_path: Option<PathBuf>,
    /// Where the finished model's folder goes.
    pub model_dir: PathBuf,
    /// When the run was asked for, RFC 3339 UTC.
    pub created_at: String,
    /// Where a model is made again: the files that it was made from, and no others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<Inputs>,
    /// Finishes the run early after this step, as that of the model that is made again was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finish_after: Option<u64>,
}

impl RunSpec {
    /// The layout version this program reads and writes.
    pub const VERSION: u32 = 1;
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainingResult {
    /// Whether a model came out.
    pub success: bool,
    /// The model's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model_id: Option<String>,
    /// The model's folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model_path: Option<PathBuf>,
    /// A sentence for the person.
    pub message: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}
