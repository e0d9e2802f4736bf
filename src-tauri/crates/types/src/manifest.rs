//! `modelforge.json`: where a fine-tuned model came from. Written last; a model folder without it is incomplete.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fallback, TrainingConfig};

/// One file and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileHash {
    /// Relative to its folder, `/` between parts.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// The base model a run started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseModel {
    /// As the run named it: repository, folder or the bundled starter model.
    pub name: String,
    /// Where it was.
    pub path: PathBuf,
    /// Its files that decide the result: config, weights, tokenizer, template.
    pub files: Vec<FileHash>,
}

/// The dataset a run was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetOrigin {
    /// As the run named it.
    pub name: String,
    /// Where it was.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Rows trained on.
    pub train_rows: u64,
    /// Rows evaluated on.
    pub eval_rows: u64,
}

/// The content of `modelforge.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Version of this file's layout: [`Manifest::VERSION`].
    pub version: u32,
    /// `model_YYYYMMDD_HHMMSS`.
    pub model_id: String,
    /// The name people see.
    pub name: String,
    /// The run that made it.
    pub job_id: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// What it started from.
    pub base_model: BaseModel,
    /// What it learned from.
    pub dataset: DatasetOrigin,
    /// The second dataset, where the run had one to evaluate on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub eval_dataset: Option<FileHash>,
    /// Files of the reward model, where the run was given one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reward_model: Vec<FileHash>,
    /// Every setting of the run.
    pub config: TrainingConfig,
    /// What the run computed with in place of its settings since it ran out of memory; absent where it never did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fallback: Option<Fallback>,
    /// The seed in force.
    pub seed: u64,
    /// Versions of the programs that made it, by name.
    pub versions: BTreeMap<String, String>,
    /// Final values by metric name; what was not measured is absent.
    pub metrics: BTreeMap<String, f64>,
    /// The base model's values on the same rows, by metric name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub base_metrics: BTreeMap<String, f64>,
    /// Evaluation rows whose answers were scored; absent where none were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_rows: Option<u64>,
    /// The step whose model it is, where that is not the last one: that of the best evaluation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub best_step: Option<u64>,
    /// Optimizer steps done.
    pub steps: u64,
    /// Optimizer steps that were planned; more than `steps` for a run that was finished early.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub planned_steps: Option<u64>,
    /// Tokens computed.
    pub tokens: u64,
    /// Training time in seconds.
    pub seconds: f64,
    /// The most memory the engine that finished the run had resident, in bytes; absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_memory_bytes: Option<u64>,
    /// The adapter's own files.
    pub files: Vec<FileHash>,
}

impl Manifest {
    /// The layout version this program reads and writes.
    pub const VERSION: u32 = 1;
    /// The file's name.
    pub const FILE: &str = "modelforge.json";
}
