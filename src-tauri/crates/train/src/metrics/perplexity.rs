//! The evaluation loss as a number of choices.

use super::{Better, Measured, Metric};

/// `exp(eval_loss)`, where that is a likelihood.
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
        let mean = measured.eval?.mean()?;
        measured.strategy.is_supervised().then(|| mean.exp())
    }
}
