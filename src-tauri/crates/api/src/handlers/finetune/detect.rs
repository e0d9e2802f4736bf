//! `finetune_detect`.

use std::sync::Arc;

pub use super::validate_task::Input;
pub use crate::Detected as Output;
use types::ApiError;

use crate::Api;

/// Looks at the machine, and keeps the task as the person's choice.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let detected = api.detect(input.task).await?;
    let mut session = api.store().session()?;
    session.task = Some(input.task.to_string());
    api.store().set_session(&session)?;
    Ok(detected)
}
