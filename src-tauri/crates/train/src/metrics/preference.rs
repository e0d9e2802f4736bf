//! What strategies that weigh answers measure on evaluation rows: the mean of what they observed under the metric's name.

use types::EvalMetric;

use super::{Better, Measured, Metric};

/// A metric whose values a strategy observes itself.
pub struct OfStrategy {
    metric: EvalMetric,
    description: &'static str,
    unit: &'static str,
}

impl Metric for OfStrategy {
    fn name(&self) -> &'static str {
        self.metric.name()
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn unit(&self) -> &'static str {
        self.unit
    }

    fn better(&self) -> Better {
        self.metric.better()
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        measured.observed?.mean(self.name())
    }
}

/// The part of the pairs whose better answer has the higher reward, its likelihood against the base model's.
pub const REWARD_ACCURACIES: OfStrategy = OfStrategy {
    metric: EvalMetric::RewardAccuracies,
    description: "Pairs whose chosen answer has a higher reward than the rejected one.",
    unit: "0 to 1",
};

/// How much higher the reward of the better answer is.
pub const REWARD_MARGINS: OfStrategy = OfStrategy {
    metric: EvalMetric::RewardMargins,
    description: "The reward of the chosen answer less that of the rejected one, on average.",
    unit: "reward",
};

/// What answers to evaluation rows are rewarded with.
pub const EVAL_REWARD: OfStrategy = OfStrategy {
    metric: EvalMetric::EvalReward,
    description: "The mean reward of answers to prompts that the model does not learn from.",
    unit: "reward",
};
