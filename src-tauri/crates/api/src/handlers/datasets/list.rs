//! `datasets_list`.

use std::sync::Arc;

use store::Dataset;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// The one checked last first.
pub type Output = Vec<Dataset>;

/// Datasets that were checked, and whether they are still there.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.store().datasets()?)
}
