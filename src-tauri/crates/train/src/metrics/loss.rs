//! Training loss of one step.

use super::{Better, Measured, Metric};

/// Mean over the trained tokens of the accumulated batch.
pub struct Loss;

impl Metric for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn description(&self) -> &'static str {
        "How unlikely the model finds the answers it is learning from, in one step."
    }

    fn unit(&self) -> &'static str {
        "nats/token"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.step?.mean()
    }
}
