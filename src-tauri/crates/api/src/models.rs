//! A finished model in the documented shape.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use store::Model;
use types::{ApiError, Provider, TrainingConfig};

use crate::Api;

/// All that is told of one model.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelDetails {
    /// `model_YYYYMMDD_HHMMSS`.
    pub model_id: String,
    /// The name people see.
    pub name: String,
    /// What it was tuned from, as the run named it.
    pub base_model: String,
    /// The task's JSON spelling.
    pub task: String,
    /// The strategy's JSON spelling.
    pub strategy: String,
    /// Which implementation trained it.
    pub provider: Option<Provider>,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// What the folder takes on disk, in 10^6 bytes, one decimal.
    pub size_mb: f64,
    /// The model's folder.
    pub path: String,
    /// Every setting of its run.
    pub config: TrainingConfig,
    /// Values by metric name; what was not measured is absent.
    pub metrics: BTreeMap<String, f64>,
}

impl Api {
    /// One finished model.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn model(&self, model_id: &str) -> Result<ModelDetails, ApiError> {
        let Model { row, manifest } = self.store.model(model_id)?;
        let config = manifest.config;
        Ok(ModelDetails {
            model_id: row.model_id,
            name: row.name,
            base_model: row.base_model,
            task: row.task,
            strategy: row.strategy,
            provider: config.provider,
            created_at: row.created_at,
            size_mb: row.size_mb,
            path: row.path,
            config,
            metrics: manifest.metrics,
        })
    }

    /// The folder of a finished model.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(crate) fn model_folder(&self, model_id: &str) -> Result<PathBuf, ApiError> {
        self.store.model(model_id)?;
        Ok(self.store.home().model(model_id)?.path().to_owned())
    }
}
