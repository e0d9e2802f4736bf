//! `finetune_config_schema`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use types::{ApiError, config::FIELDS};

pub use super::session::Input;
use crate::Api;

/// One setting of a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Setting {
    /// Its row of the table: name, type with its range or choices, default, help.
    #[serde(flatten)]
    pub field: serde_json::Map<String, Value>,
}

/// Every setting, in the order people meet them.
pub type Output = Vec<Setting>;

/// The table that requests are checked against.
pub async fn run(_api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let row = |field| match serde_json::to_value(field) {
        Ok(Value::Object(field)) => Ok(Setting { field }),
        Ok(other) => Err(ApiError::internal(format!("a setting is no object: {other}"))),
        Err(error) => Err(ApiError::internal(error)),
    };
    FIELDS.iter().map(row).collect()
}
