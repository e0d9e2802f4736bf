//! `models_manifest`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use types::{ApiError, manifest::FileHash};

pub use super::get::Input;
use crate::Api;

/// Where a finished model came from, and whether that is still there.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// The model's id.
    pub model_id: String,
    /// The run that made it.
    pub job_id: String,
    /// The base model, as the run named it.
    pub base_model: String,
    /// The base model's folder: where it is, or where it was when it is gone.
    pub base_path: PathBuf,
    /// Whether the base model is on this machine.
    pub base_here: bool,
    /// The dataset, as the run named it.
    pub dataset: String,
    /// The dataset's file, where it was.
    pub dataset_path: PathBuf,
    /// Whether that file is still there.
    pub dataset_here: bool,
    /// The seed in force.
    pub seed: u64,
    /// Optimizer steps done.
    pub steps: u64,
    /// Tokens computed.
    pub tokens: u64,
    /// Training time in seconds.
    pub seconds: f64,
    /// Rows trained on.
    pub train_rows: u64,
    /// Rows evaluated on.
    pub eval_rows: u64,
    /// Of those, rows whose answers were scored; null where none were.
    pub answered_rows: Option<u64>,
    /// The base model's values on the same rows, by metric name; empty where it was not measured.
    pub base_metrics: BTreeMap<String, f64>,
    /// The step whose model it is, where that is not the last one: that of the best evaluation.
    pub best_step: Option<u64>,
    /// Versions of the programs that made it, by name.
    pub versions: BTreeMap<String, String>,
    /// The adapter's own files.
    pub files: Vec<FileHash>,
}

/// 404 for an unknown id.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let manifest = api.store().model(&input.model_id)?.manifest;
    let base = api.base_of(&manifest).ok();
    let dataset_here = manifest.dataset.path.is_file();
    Ok(Output {
        model_id: manifest.model_id,
        job_id: manifest.job_id,
        base_here: base.is_some(),
        base_model: manifest.base_model.name,
        base_path: base.map_or(manifest.base_model.path, |base| base.dir),
        dataset: manifest.dataset.name,
        dataset_path: manifest.dataset.path,
        dataset_here,
        seed: manifest.seed,
        steps: manifest.steps,
        tokens: manifest.tokens,
        seconds: manifest.seconds,
        train_rows: manifest.dataset.train_rows,
        eval_rows: manifest.dataset.eval_rows,
        answered_rows: manifest.answered_rows,
        base_metrics: manifest.base_metrics,
        best_step: manifest.best_step,
        versions: manifest.versions,
        files: manifest.files,
    })
}
