//! Strategies: how rows become batches and what their loss is. Everything else about training is the same for all.

mod dpo;
pub mod pair_loss;
mod sft;

use candle_core::{Result, Tensor};
use data::{Batch, Encoded};
use models::{Model, Pass};
use types::TrainingConfig;

pub use dpo::Dpo;
pub(crate) use dpo::{likelihoods, with_gradient};
pub use sft::Sft;

use crate::{TrainError, metrics::Observed, rl::Prompts};

/// What a way of training adds to the loop.
pub trait Strategy: Send + Sync {
    /// Lays rows end to end.
    fn collate(&self, rows: &[Encoded]) -> Batch {
        let mut batch = Batch::default();
        rows.iter().for_each(|row| batch.add(row));
        batch
    }

    /// How many terms the loss of a batch sums up: the loss of a step is the sum over all of its batches, divided by
    /// this number over all of its batches.
    fn terms(&self, batch: &Batch) -> usize;

    /// The summed loss from the hidden states after the last layer and its norm, `[tokens, hidden]`.
    fn loss(&self, model: &dyn Model, hidden: &Tensor, batch: &Batch, pass: Pass) -> Result<Loss>;

    /// Whether batches must hold the log-likelihoods that the base model gives their answers.
    fn needs_reference(&self) -> bool {
        false
    }
}

/// The loss of a batch.
pub struct Loss {
    /// Summed over its terms, an f32 scalar.
    pub sum: Tensor,
    /// What else was seen.
    pub observed: Observed,
}

impl From<Tensor> for Loss {
    fn from(sum: Tensor) -> Self {
        Self { sum, observed: Observed::default() }
    }
}

/// Makes a strategy for the settings of a run.
pub type Make = fn(&TrainingConfig) -> Box<dyn Strategy>;

/// Every strategy, by the setting that picks it.
pub const STRATEGIES: &[(types::Strategy, Make)] = &[
    (types::Strategy::Sft, |_| Box::new(Sft)),
    // A quantised base is a matter of loading; the loss is that of supervised fine-tuning.
    (types::Strategy::Qlora, |_| Box::new(Sft)),
    (types::Strategy::Dpo, |config| Box::new(Dpo::new(config))),
    (types::Strategy::Rlhf, |_| Box::new(Prompts)),
];

/// The strategy that the settings pick.
pub(crate) fn find(config: &TrainingConfig) -> std::result::Result<Box<dyn Strategy>, TrainError> {
    let name = config.strategy;
    match STRATEGIES.iter().find(|(strategy, _)| *strategy == name) {
        Some((_, make)) => Ok(make(config)),
        None => Err(TrainError::NotAvailable { field: "strategy", value: name.name() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_strategy_without_code_is_refused() {
        let config = |strategy: &str| {
            let request =
                json!({"task": "text-generation", "model_name": "m", "dataset": "d", "strategy": strategy});
            TrainingConfig::from_json(request.as_object().unwrap()).unwrap()
        };
        assert!(find(&config("sft")).is_ok_and(|strategy| !strategy.needs_reference()));
        assert!(find(&config("qlora")).is_ok_and(|strategy| !strategy.needs_reference()));
        assert!(find(&config("dpo")).is_ok_and(|strategy| strategy.needs_reference()));
        assert!(find(&config("rlhf")).is_ok_and(|strategy| !strategy.needs_reference()));
    }
}
