//! Strategies: how rows become batches and what their loss is. Everything else about training is the same for all.

mod sft;

use candle_core::{Result, Tensor};
use data::{Batch, Encoded};
use models::{Model, Pass};

use crate::TrainError;

/// What a way of training adds to the loop.
pub trait Strategy: Sync {
    /// The setting that picks it.
    fn name(&self) -> types::Strategy;

    /// Lays rows end to end.
    fn collate(&self, rows: &[Encoded]) -> Batch;

    /// How many terms the loss of a batch sums up: the loss of a step is the sum over all of its batches, divided by
    /// this number over all of its batches.
    fn terms(&self, batch: &Batch) -> usize;

    /// The summed loss, an f32 scalar, from the hidden states after the last layer and its norm, `[tokens, hidden]`.
    fn loss(&self, model: &dyn Model, hidden: &Tensor, batch: &Batch, pass: Pass) -> Result<Tensor>;
}

/// Every strategy.
pub const STRATEGIES: &[&dyn Strategy] = &[&sft::Sft];

/// The strategy a setting picks.
pub(crate) fn find(name: types::Strategy) -> std::result::Result<&'static dyn Strategy, TrainError> {
    // A quantised base is a matter of loading; its loss is that of supervised fine-tuning.
    let loss = if name == types::Strategy::Qlora { types::Strategy::Sft } else { name };
    STRATEGIES
        .iter()
        .find(|s| s.name() == loss)
        .copied()
        .ok_or(TrainError::NotAvailable { field: "strategy", value: name.name() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_without_code_is_refused() {
        assert_eq!(find(types::Strategy::Sft).unwrap().name(), types::Strategy::Sft);
        assert_eq!(find(types::Strategy::Qlora).unwrap().name(), types::Strategy::Sft);
        assert!(matches!(find(types::Strategy::Dpo), Err(TrainError::NotAvailable { value: "dpo", .. })));
    }
}
