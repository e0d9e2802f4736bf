//! A run that learns from rewards.

use std::{error::Error, sync::Mutex, thread};

use types::{TrainEvent, TrainingConfig, engine::Control};

use super::{Judge, policy::Prompts};
use crate::{BatchRun, Batches, EpochBatches, Outcome, TrainError, TrainRun, ahead::Ahead, run::Training};

/// Has the model in training answer prompts. Whoever starts a run gives it, since training knows nothing of generating text.
pub trait Writer {
    /// Answers all prompts with the adapter on, each drawn from its own seed at this temperature, in at most `length` tokens.
    /// An answer that ended by itself ends with the token that says so. `None` once nobody `wanted` them any more.
    ///
    /// # Errors
    /// A prompt cannot be answered.
    fn write(
        &self,
        prompts: &[&[u32]],
        seeds: &[u64],
        length: usize,
        temperature: f64,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Vec<u32>>>, Box<dyn Error>>;

    /// The text of ids as people read it.
    fn text(&self, ids: &[u32]) -> String;
}

/// A run that learns from rewards.
pub struct PolicyRun<'a> {
    /// Model, rows, settings and so on. The model has an adapter to train; with ppo a scalar head that is trained with it, and where
    /// a model is the judge, that one's adapter and head as its second.
    pub run: TrainRun<'a>,
    /// What has the model answer.
    pub writer: &'a dyn Writer,
    /// Who scores the answers.
    pub judge: &'a Judge,
}

/// What a step needs besides the rest of a run.
#[derive(Clone, Copy)]
pub(crate) struct Policy<'a> {
    pub writer: &'a dyn Writer,
    pub judge: &'a Judge,
    /// How many prompts are answered at a time in an evaluation.
    pub together: usize,
}

/// Optimizer steps and batches are those of rollouts: each step takes as many prompts as a rollout has.
pub fn rollout_settings(config: &TrainingConfig) -> TrainingConfig {
    TrainingConfig {
        per_device_train_batch_size: config.rollout_batch_size,
        gradient_accumulation_steps: 1,
        packing: false,
        ..config.clone()
    }
}

/// Trains a policy; tells what [`run`](crate::run()) tells, with the metrics of rollouts in each step.
///
/// # Errors
/// See [`TrainError`]; a policy that runs away from its base or falls silent is one.
pub fn train_policy(
    run: PolicyRun,
    sink: &mut dyn FnMut(TrainEvent),
    control: &dyn Fn() -> Option<Control>,
) -> Result<Outcome, TrainError> {
    let PolicyRun { run: TrainRun { model, data, config, job, resume, answers }, writer, judge } = run;
    let mut batches = EpochBatches::new(data, &rollout_settings(config))?;
    sink(crate::run::prepared(data, batches.total_steps()));
    let trainable = model.trainable();
    let batches: Mutex<&mut dyn Batches> = Mutex::new(&mut batches);
    thread::scope(|scope| {
        let batches = &mut Ahead::new(scope, &batches);
        let run = BatchRun { model, batches, config, job, resume, answers };
        let mut training = Training::new(run, &trainable, &Prompts, sink, control)?;
        let answers_each = config.rollout_batch_size.max(8) as usize;
        training.policy = Some(Policy { writer, judge, together: answers_each });
        training.run()
    })
}
