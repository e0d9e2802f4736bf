//! What can go wrong in describing a model or a run.

use types::{ApiError, FieldError};

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HardwareError {
    /// `config.json` does not describe a decoder-only model.
    #[error("config.json: {field}: {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The settings ask for what no engine of this version carries out.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<FieldError>),
}

impl From<HardwareError> for ApiError {
    fn from(error: HardwareError) -> Self {
        match error {
            HardwareError::Unsupported(fields) => ApiError::invalid(fields),
            HardwareError::Config { .. } => ApiError::bad_request(error.to_string()),
        }
    }
}
