//! What the metrics of evaluations mean: which direction is progress, and what they are measured for.

use crate::{EvalMetric, Task};

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
    /// Those that are measured for a task.
    pub fn of(task: Task) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |metric| metric.goes_with(task))
    }

    /// Which direction is progress.
    pub fn better(self) -> Better {
        if self.is_of_answers() { Better::Higher } else { Better::Lower }
    }

    /// Whether the model has to answer rows for it; the others are of its loss.
    pub fn is_of_answers(self) -> bool {
        !matches!(self, Self::EvalLoss | Self::Perplexity)
    }

    /// Whether it says something about how well a model does a task.
    pub fn goes_with(self, task: Task) -> bool {
        match self {
            Self::EvalLoss | Self::Perplexity => true,
            Self::Rouge1 | Self::Rouge2 | Self::RougeL => task == Task::Summarization,
            Self::ExactMatch | Self::F1 => task == Task::ExtractiveQuestionAnswering,
        }
    }
}
