//! A finished model in the documented shape.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use store::{Model, table::models::ModelRow};
use types::{ApiError, Provider, TrainingConfig};

use crate::Api;

/// All that is told of one model.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelDetails {
    /// What the list tells of it.
    #[serde(flatten)]
    pub row: ModelRow,
    /// Which implementation trained it.
    pub provider: Option<Provider>,
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
        Ok(ModelDetails { row, provider: config.provider, config, metrics: manifest.metrics })
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
