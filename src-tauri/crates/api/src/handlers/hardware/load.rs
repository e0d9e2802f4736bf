//! `hardware_load`.

use std::sync::Arc;

pub use ::hardware::Load as Output;
use types::ApiError;

pub use crate::handlers::Nothing as Input;
use crate::{Api, ComputesOn};

/// Asks the system and the drivers; of the processor, it tells the time since the last such request.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let meter = Arc::clone(&api.load);
    let mut load = crate::blocking(move || meter.measure()).await?;
    if !load.gpus.is_empty()
        && let ComputesOn::Card(card) = api.computes_on().await?
    {
        load.gpus.iter_mut().for_each(|gpu| gpu.computes = gpu.uuid == card.uuid);
    }
    Ok(load)
}
