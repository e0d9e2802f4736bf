//! What the metrics of evaluations mean: which direction is progress, and what they are measured for.

use crate::{EvalMetric, Strategy, Task};

/// Which direction is progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Smaller values.
    Lower,
    /// Larger values.
    Higher,
}

impl Better {
    /// Whether `new` is progress over `old`.
    pub fn improves(self, new: f64, old: f64) -> bool {
        match self {
            Self::Lower => new < old,
            Self::Higher => new > old,
        }
    }
}

impl EvalMetric {
    /// Those that are measured for a task with a strategy.
    pub fn of(task: Task, strategy: Strategy) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |metric| metric.goes_with(task, strategy))
    }

    /// Which direction is progress.
    pub fn better(self) -> Better {
        if matches!(self, Self::EvalLoss | Self::Perplexity) { Better::Lower } else { Better::Higher }
    }

    /// Whether the model has to answer rows for it; the others are of likelihoods.
    pub fn is_of_answers(self) -> bool {
        matches!(self, Self::Rouge1 | Self::Rouge2 | Self::RougeL | Self::ExactMatch | Self::F1)
    }

    /// Whether it says something about how well a model does a task, learned with a strategy.
    pub fn goes_with(self, task: Task, strategy: Strategy) -> bool {
        match self {
            Self::EvalLoss => strategy != Strategy::Rlhf,
            Self::EvalReward => strategy == Strategy::Rlhf,
            Self::Perplexity => strategy.is_supervised(),
            Self::Rouge1 | Self::Rouge2 | Self::RougeL => task == Task::Summarization,
            Self::ExactMatch | Self::F1 => task == Task::ExtractiveQuestionAnswering,
            Self::RewardAccuracies | Self::RewardMargins => strategy == Strategy::Dpo,
        }
    }
}
