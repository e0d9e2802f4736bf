//! Loss on rows the model does not learn from.

use super::{Better, Measured, Metric};

/// Sum of the negative log-likelihood of all trained tokens of the evaluation rows, divided by their number.
pub struct EvalLoss;

impl Metric for EvalLoss {
    fn name(&self) -> &'static str {
        "eval_loss"
    }

    fn description(&self) -> &'static str {
        "How unlikely the model finds the answers of rows it has not learned from."
    }

    fn unit(&self) -> &'static str {
        "nats/token"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.eval?.mean()
    }
}
