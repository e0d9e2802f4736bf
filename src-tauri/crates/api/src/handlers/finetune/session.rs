//! `finetune_session`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use store::table::session::Session;
use types::ApiError;

use crate::Api;
pub use crate::handlers::Nothing as Input;

/// What was chosen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true.
    pub success: bool,
    /// The choices.
    #[serde(flatten)]
    pub session: Session,
}

/// Reads the choices; all null on a fresh start.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(Output { success: true, session: api.store().session()? })
}
