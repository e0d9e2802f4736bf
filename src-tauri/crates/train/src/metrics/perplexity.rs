//! The evaluation loss as a number of choices.

use super::{Better, Measured, Metric};

/// `exp(eval_loss)`.
pub struct Perplexity;

impl Metric for Perplexity {
    fn name(&self) -> &'static str {
        "perplexity"
    }

    fn description(&self) -> &'static str {
        "Among how many equally likely tokens the model chooses, on rows it has not learned from."
    }

    fn unit(&self) -> &'static str {
        "tokens"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.eval?.mean().map(f64::exp)
    }
}
