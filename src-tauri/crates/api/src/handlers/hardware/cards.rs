//! `hardware_cards`.

use std::sync::Arc;

use hardware::Card;
use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

pub use crate::handlers::Nothing as Input;
use crate::{Api, ComputesOn};

/// NVIDIA's cards, and where runs are computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "HardwareCards")]
pub struct Output {
    /// The driver's version; null without one.
    pub driver_version: Option<String>,
    /// The newest CUDA version that it supports.
    pub cuda_version: Option<String>,
    /// The cards that this app may use (`CUDA_VISIBLE_DEVICES`), in the order in which it sees them.
    pub cards: Vec<Card>,
    /// Whether this app has an engine for cards.
    pub engine: bool,
    /// The UUID of the card that the next run is computed on; null for the processor.
    pub computes_on: Option<String>,
    /// Why the next run is not computed on a card; null where it is, and where nobody wants it to be.
    pub reason: Option<String>,
}

/// Asks the driver, and the engine for cards whether it can compute.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let place = api.computes_on().await?;
    let found = crate::blocking(::hardware::cards).await?;
    let engine = place != ComputesOn::NoEngine;
    let (computes_on, reason) = match place {
        ComputesOn::Card(card) => (Some(card.uuid), None),
        ComputesOn::NoCard(why) => (None, Some(why)),
        ComputesOn::Processor | ComputesOn::NoEngine => (None, None),
    };
    let ::hardware::Cards { driver_version, cuda_version, visible, .. } = found;
    Ok(Output { driver_version, cuda_version, cards: visible, engine, computes_on, reason })
}
