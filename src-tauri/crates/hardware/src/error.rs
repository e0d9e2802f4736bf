//! What can go wrong in describing a model or a run.

use types::ApiError;

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
}

impl From<HardwareError> for ApiError {
    fn from(error: HardwareError) -> Self {
        ApiError::bad_request(error.to_string())
    }
}
