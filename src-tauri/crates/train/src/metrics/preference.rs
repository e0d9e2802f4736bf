//! How well a model tells the better of two answers: by rewards, the likelihoods of answers against the base model's.

use types::EvalMetric;

use super::{Better, Measured, Metric};

/// The part of the pairs whose better answer has the higher reward.
pub struct RewardAccuracies;

impl Metric for RewardAccuracies {
    fn name(&self) -> &'static str {
        EvalMetric::RewardAccuracies.name()
    }

    fn description(&self) -> &'static str {
        "Pairs whose chosen answer has a higher reward than the rejected one."
    }

    fn unit(&self) -> &'static str {
        "0 to 1"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.observed?.mean(self.name())
    }
}

/// How much higher the reward of the better answer is.
pub struct RewardMargins;

impl Metric for RewardMargins {
    fn name(&self) -> &'static str {
        EvalMetric::RewardMargins.name()
    }

    fn description(&self) -> &'static str {
        "The reward of the chosen answer less that of the rejected one, on average."
    }

    fn unit(&self) -> &'static str {
        "reward"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.observed?.mean(self.name())
    }
}

/// What answers to evaluation rows are rewarded with.
pub struct EvalReward;

impl Metric for EvalReward {
    fn name(&self) -> &'static str {
        EvalMetric::EvalReward.name()
    }

    fn description(&self) -> &'static str {
        "The mean reward of answers to prompts that the model does not learn from."
    }

    fn unit(&self) -> &'static str {
        "reward"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.observed?.mean(self.name())
    }
}
