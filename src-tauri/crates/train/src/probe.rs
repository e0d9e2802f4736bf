//! Trying a run out: its heaviest steps done for real, nothing kept, and from their speed how long the run would take.

use std::time::Instant;

use data::{Batch, TokenRows};
use types::{TrainEvent, engine::ProbeStep};

use crate::{
    BatchRun, Batches, EpochBatches, StepBatches, TrainError, TrainRun, backward::Backward,
    reference::Reference, run::Training, strategies,
};

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// The steps that were done.
    pub steps: Vec<ProbeStep>,
    /// How long all steps and evaluations of the run would take, in seconds.
    pub estimated_seconds: f64,
}

/// Does the two heaviest steps of a run; `sink` is told of each. Neither checkpoints nor the state of one are touched, and
/// the model's adapter is worth nothing afterwards.
///
/// # Errors
/// See [`TrainError`].
pub fn probe(run: TrainRun, sink: &mut dyn FnMut(&ProbeStep)) -> Result<Probed, TrainError> {
    let TrainRun { model, data, config, job, resume: _, answers: _ } = run;
    let mut all = EpochBatches::new(data, config)?;
    let strategy = strategies::find(config)?;
    if all.needs_reference() {
        all.compared_with(Reference::zeros(data));
    }
    let (total_steps, tokens) = (all.total_steps(), all.planned_tokens());
    let mut heaviest = Heaviest { steps: all.heaviest_steps(), all };
    let count = heaviest.total_steps();

    let trainable = model.trainable();
    let mut steps = Vec::new();
    let mut note = |event| {
        if let TrainEvent::Step(stats) = event {
            let step = ProbeStep { step_ms: stats.step_ms, tokens: stats.tokens, loss: stats.loss };
            sink(&step);
            steps.push(step);
        }
    };
    let run = BatchRun { model, batches: &mut heaviest, config, job, resume: None, answers: None };
    let mut training = Training::new(run, &trainable, strategy.as_ref(), &mut note, &|| None)?;
    for _ in 0..count {
        training.step()?;
    }
    drop(training);

    let seconds: f64 = steps.iter().map(|step| step.step_ms / 1e3).sum();
    let measured: u64 = steps.iter().map(|step| step.tokens).sum();
    let mut estimated_seconds = tokens * seconds / measured as f64;
    let tokens_of = |rows: &TokenRows| (0..rows.len()).map(|row| rows.length(row)).sum::<usize>() as f64;
    if heaviest.eval_len() > 0 {
        let backward = Backward {
            model,
            strategy: strategy.as_ref(),
            trainable: &trainable,
            checkpointing: false,
            offload: false,
        };
        let batch = heaviest.eval(0)?;
        let started = Instant::now();
        backward.loss(&batch)?;
        let seconds_a_token = started.elapsed().as_secs_f64() / batch.tokens() as f64;
        // The base model is measured too.
        let evaluations = 1 + total_steps.div_ceil(u64::from(config.eval_steps.max(1)));
        let mut measured = evaluations as f64 * tokens_of(&data.eval);
        if strategy.needs_reference() {
            measured += tokens_of(&data.train) + tokens_of(&data.eval);
        }
        estimated_seconds += measured * seconds_a_token;
    }
    Ok(Probed { total_steps, steps, estimated_seconds })
}

/// Some steps of a run, as if they were all of it.
struct Heaviest<'a> {
    all: EpochBatches<'a>,
    steps: Vec<u64>,
}

impl Batches for Heaviest<'_> {
    fn total_steps(&self) -> u64 {
        self.steps.len() as u64
    }

    fn step(&mut self, step: u64) -> Result<StepBatches, TrainError> {
        let step =
            usize::try_from(step).ok().and_then(|step| self.steps.get(step)).ok_or(TrainError::NoRows)?;
        self.all.step(*step)
    }

    fn eval_len(&self) -> usize {
        self.all.eval_len()
    }

    fn eval(&mut self, index: usize) -> Result<Batch, TrainError> {
        self.all.eval(index)
    }
}
