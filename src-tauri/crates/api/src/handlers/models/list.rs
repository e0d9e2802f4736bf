//! `models_list`.

use std::sync::Arc;

use store::table::models::ModelRow;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The newest first.
pub type Output = Vec<ModelRow>;

/// Folders that came or went since are taken into account.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().models()?)
}
