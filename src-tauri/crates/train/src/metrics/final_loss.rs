//! Training loss at the end of a run.
//!
//! One step's loss depends on the rows it happened to get, and the mean over a whole run (transformers' `train_loss`)
//! tells more about the start than about the end. This is the mean over the last [`WINDOW`] steps.

use super::{Better, Measured, Metric};

/// Steps that the mean is taken over.
pub const WINDOW: usize = 10;

/// Mean of the last steps' losses.
pub struct FinalLoss;

impl Metric for FinalLoss {
    fn name(&self) -> &'static str {
        "final_loss"
    }

    fn description(&self) -> &'static str {
        "The training loss, averaged over the last ten steps."
    }

    fn unit(&self) -> &'static str {
        "nats/token"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        let losses = measured.last_losses;
        (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
    }
}
