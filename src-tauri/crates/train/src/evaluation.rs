//! Measuring during a run: the loss on the evaluation rows, what the model answers to some of them, and which evaluation was
//! the best so far.
//!
//! Before the first step the adapter changes nothing yet: what is measured then is the base model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{EvalMetric, Phase, TrainEvent, engine::Control, event::SAMPLED_ROWS};

use crate::{
    Checkpoint, TrainError,
    metrics::{self, Answered, Measured, Observed, Total},
    progress::{Exact, Progress},
    run::Training,
};

/// Has the model in training answer evaluation rows. Whoever starts a run gives it, since training knows nothing of
/// generating text.
pub trait Answers {
    /// Answers rows as the model is now, the same ones in the same order each time, until they are over or no more `wanted`.
    /// `each` takes the answers.
    ///
    /// # Errors
    /// A row cannot be answered. The run goes on without its scores.
    fn answer(
        &self,
        wanted: &dyn Fn() -> bool,
        each: &mut dyn FnMut(Answer),
    ) -> Result<(), Box<dyn std::error::Error>>;
}

/// The answer to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked, as people are shown it.
    pub prompt: String,
    /// The row's own answer, as people are shown it.
    pub reference: String,
    /// What is scored.
    pub scored: Answered,
}

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// After this step.
    pub step: u64,
    /// Its value of the metric that tells.
    pub value: Exact,
}

/// What was measured at one time.
struct Evaluation {
    metrics: BTreeMap<String, f64>,
    answered: Option<u64>,
}

impl Training<'_> {
    /// Measures the base model, unless the run has steps already or is not to go on.
    pub(crate) fn evaluate_base(&mut self) -> Result<(), TrainError> {
        if self.progress.step > 0 || self.batches.eval_len() == 0 || self.is_broken_off() {
            return Ok(());
        }
        if let Some(Evaluation { metrics, answered }) = self.measure()? {
            self.progress.base_metrics = exact(&metrics);
            (self.sink)(TrainEvent::Eval { step: 0, metrics, answered_rows: answered });
        }
        Ok(())
    }

    /// Measures the evaluation rows unless that was done after this very step. False if it was broken off to pause.
    pub(crate) fn evaluate(&mut self, last: bool) -> Result<bool, TrainError> {
        let step = self.progress.step;
        if self.batches.eval_len() == 0 || self.progress.evaluated == Some(step) {
            return Ok(true);
        }
        let Some(Evaluation { metrics, answered }) = self.measure()? else { return Ok(false) };
        self.progress.metrics = exact(&metrics);
        self.progress.answered_rows = answered;
        self.progress.evaluated = Some(step);
        self.judge(&metrics);
        (self.sink)(TrainEvent::Eval { step, metrics, answered_rows: answered });
        if !last {
            (self.sink)(TrainEvent::Phase { phase: Phase::Training });
        }
        Ok(true)
    }

    /// `None` if it was broken off to pause.
    fn measure(&mut self) -> Result<Option<Evaluation>, TrainError> {
        (self.sink)(TrainEvent::Phase { phase: Phase::Evaluating });
        let (total, observed) = match self.policy {
            Some(policy) => match self.observe_policy(policy)? {
                Some(observed) => (None, observed),
                None => return Ok(None),
            },
            None => match self.eval_losses()? {
                Some((total, observed)) => (Some(total), observed),
                None => return Ok(None),
            },
        };
        let Some(answers) = self.answers() else { return Ok(None) };
        let task = Some(self.config.task);
        let (strategy, observed) = (self.config.strategy, Some(&observed));
        let measured =
            Measured { eval: total, task, strategy, observed, answers: &answers, ..Measured::default() };
        let metrics = metrics::measure(&measured);
        if !metrics.contains_key(EvalMetric::EvalLoss.name()) && self.policy.is_none() {
            let step = self.progress.step;
            let message = format!("after step {step} the evaluation rows gave no finite loss");
            (self.sink)(TrainEvent::Warning { message });
        }
        let answered = Some(answers.len() as u64).filter(|&rows| rows > 0);
        Ok(Some(Evaluation { metrics, answered }))
    }

    /// The loss on the evaluation rows, and what the strategy saw; `None` if it was broken off to pause.
    fn eval_losses(&mut self) -> Result<Option<(Total, Observed)>, TrainError> {
        let (mut total, mut observed) = (Total::default(), Observed::default());
        for index in 0..self.batches.eval_len() {
            if self.is_broken_off() {
                return Ok(None);
            }
            let batch = self.batches.eval(index)?;
            total.terms += self.backward.strategy.terms(&batch);
            let computed = self.backward.loss(&batch)?;
            total.sum += computed.sum;
            observed.extend(computed.observed);
        }
        Ok(Some((total, observed)))
    }

    /// Has rows answered, tells the first answers, and returns those to be scored; `None` if it was broken off to pause.
    fn answers(&mut self) -> Option<Vec<Answered>> {
        let Some(answers) = self.answers else { return Some(Vec::new()) };
        let (step, most, control) = (self.progress.step, self.config.scored_answers(), self.control);
        let (mut scored, mut seen) = (Vec::new(), 0);
        let wanted = || !breaks_off(control(), step);
        let answered = answers.answer(&wanted, &mut |Answer { prompt, reference, scored: answer }| {
            if seen < SAMPLED_ROWS {
                let text = answer.text.clone();
                (self.sink)(TrainEvent::Sample { step, prompt, text, reference });
            }
            if seen < most {
                scored.push(answer);
            }
            seen += 1;
        });
        if !wanted() {
            return None;
        }
        // A run is not given up for want of an answer; a part of the rows would be no fair score.
        if let Err(error) = answered {
            let message = format!("the model gave no answer after step {step}: {error}");
            (self.sink)(TrainEvent::Warning { message });
            scored.clear();
        }
        Some(scored)
    }

    fn is_broken_off(&self) -> bool {
        breaks_off((self.control)(), self.progress.step)
    }

    /// Compares an evaluation with the best before.
    fn judge(&mut self, metrics: &BTreeMap<String, f64>) {
        if !self.config.load_best_model_at_end && self.config.early_stopping_patience == 0 {
            return;
        }
        let metric = self.config.best_metric();
        let progress = &mut self.progress;
        let Some(&value) = metrics.get(metric.name()) else {
            let message =
                format!("the evaluation after step {} gave no {metric} to tell the best by", progress.step);
            (self.sink)(TrainEvent::Warning { message });
            return;
        };
        if progress.best.is_none_or(|best| metric.better().improves(value, best.value.0)) {
            progress.best = Some(Best { step: progress.step, value: Exact(value) });
            progress.no_better = 0;
        } else {
            progress.no_better += 1;
        }
    }

    /// Whether so many evaluations in a row were no better that the run is to end.
    pub(crate) fn stalled(&self) -> bool {
        let patience = self.config.early_stopping_patience;
        patience > 0 && self.progress.no_better >= patience
    }

    /// Whether this very step is the best so far and its model may be the run's.
    pub(crate) fn is_best(&self) -> bool {
        let best = self.progress.best.is_some_and(|best| best.step == self.progress.step);
        best && self.config.load_best_model_at_end
    }

    /// Puts the weights of the best evaluation into the adapter where they are wanted and are not there already; returns
    /// what the run had done then.
    pub(crate) fn load_best(&mut self) -> Option<Progress> {
        let best = self.progress.best.filter(|_| self.config.load_best_model_at_end && !self.is_best())?;
        let loaded = Checkpoint::of_step(self.job, best.step)
            .and_then(|checkpoint| checkpoint.restore_adapter(self.trainable).map(|()| checkpoint));
        match loaded {
            Ok(checkpoint) => Some(checkpoint.progress().clone()),
            Err(error) => {
                let message = format!(
                    "the model is that of the last step, not of the best, step {}: {error}",
                    best.step
                );
                (self.sink)(TrainEvent::Warning { message });
                None
            }
        }
    }
}

/// Whether an order ends an evaluation. An early finish wants one, but where there is no step to finish with it is a pause.
pub(crate) fn breaks_off(order: Option<Control>, step: u64) -> bool {
    order == Some(Control::Pause) || (order.is_some() && step == 0)
}

fn exact(metrics: &BTreeMap<String, f64>) -> BTreeMap<String, Exact> {
    metrics.iter().map(|(name, &value)| (name.clone(), Exact(value))).collect()
}
