//! A run from its first step, or from a checkpoint, to its last.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use candle_core::{DType, Var};
use data::Prepared;
use models::{Model, Pass};
use rayon::prelude::*;
use types::{Fallback, JobFolder, Phase, StepStats, TrainEvent, TrainingConfig, engine::Control};

use crate::{
    TrainError,
    ahead::Ahead,
    backward::Backward,
    batches::{Batches, EpochBatches},
    checkpoint::{
        self, Checkpoint, Snapshot,
        saver::{Saved, Saver},
    },
    evaluation::{Answers, breaks_off},
    gradients::{Gradients, Sums},
    metrics::{self, Measured, Observed, Total},
    optimizers::{self, Optimizer, Parameter, decays},
    progress::{Exact, Progress},
    reference::Reference,
    rl::Policy,
    schedules::{self, Schedule, Span},
    seeds,
    strategies::{self, Strategy},
    tensors,
};

/// A run on a prepared dataset.
pub struct TrainRun<'a> {
    /// The model with its adapter, which is trained in place.
    pub model: &'a dyn Model,
    /// The tokenized rows.
    pub data: &'a Prepared,
    /// Every setting.
    pub config: &'a TrainingConfig,
    /// Where checkpoints go.
    pub job: &'a JobFolder,
    /// What to go on from.
    pub resume: Option<Checkpoint>,
    /// What has the model answer rows at evaluations.
    pub answers: Option<&'a dyn Answers>,
}

/// A run on batches of any origin.
pub struct BatchRun<'a> {
    /// The model with its adapter, which is trained in place.
    pub model: &'a dyn Model,
    /// What it learns from.
    pub batches: &'a mut dyn Batches,
    /// Every setting; those that make batches out of rows have no effect here.
    pub config: &'a TrainingConfig,
    /// Where checkpoints go.
    pub job: &'a JobFolder,
    /// What to go on from.
    pub resume: Option<Checkpoint>,
    /// What has the model answer rows at evaluations.
    pub answers: Option<&'a dyn Answers>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps are done, or it was asked to finish early; the model holds the trained adapter.
    Finished(Summary),
    /// It was asked to pause.
    Stopped {
        /// The last step done.
        step: u64,
        /// The checkpoint to go on from; none before the first step.
        checkpoint: Option<PathBuf>,
    },
}

/// What a finished run did, all parts of a resumed one together.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Values of the model that came out, by metric name.
    pub metrics: BTreeMap<String, f64>,
    /// The base model's values on the same rows.
    pub base_metrics: BTreeMap<String, f64>,
    /// Rows whose answers were scored, if any were.
    pub answered_rows: Option<u64>,
    /// The step whose model came out, where that is not the last one.
    pub best_step: Option<u64>,
    /// Whether it ended because evaluations got no better.
    pub stalled: bool,
    /// Optimizer steps done.
    pub steps: u64,
    /// Optimizer steps that were planned; more than `steps` where the run finished early.
    pub planned_steps: u64,
    /// Tokens computed.
    pub tokens: u64,
    /// Of those, tokens the loss counted.
    pub trained_tokens: u64,
    /// Training time.
    pub seconds: f64,
}

/// Trains on a prepared dataset; tells [`TrainEvent::Prepared`] first, then as [`run_batches`].
///
/// # Errors
/// See [`TrainError`].
pub fn run(
    run: TrainRun,
    sink: &mut dyn FnMut(TrainEvent),
    control: &dyn Fn() -> Option<Control>,
) -> Result<Outcome, TrainError> {
    let TrainRun { model, data, config, job, resume, answers } = run;
    let fallback = Fallback::read(job).map_err(TrainError::file(job.fallback()))?;
    let mut batches = EpochBatches::new(data, config)?;
    if let Some(fallback) = &fallback {
        batches = batches.in_parts(fallback);
    }
    let done = resume.as_ref().map_or(0, Checkpoint::step);
    sink(prepared(data, batches.total_steps()));
    if batches.needs_reference() {
        let wanted = || !breaks_off(control(), done);
        match Reference::of(model, data, config, job, sink, &wanted)? {
            Some(reference) => batches.compared_with(reference),
            None => {
                let checkpoint = resume.map(|checkpoint| checkpoint.path().to_owned());
                sink(TrainEvent::Stopped { step: done, checkpoint: checkpoint.clone() });
                return Ok(Outcome::Stopped { step: done, checkpoint });
            }
        }
    }
    run_batches(BatchRun { model, batches: &mut batches, config, job, resume, answers }, sink, control)
}

/// Trains on given batches. Events go to `sink` as they happen. `control` gives the order in force; it is asked between
/// steps and between batches of an evaluation. The batches of a step are made on a thread of their own while the step before
/// it is computed. [`Control::Pause`] writes a checkpoint and ends with [`Outcome::Stopped`];
/// [`Control::Finish`] measures and ends with [`Outcome::Finished`], but pauses where no step has been done yet.
///
/// # Errors
/// See [`TrainError`]. Checkpoints written before an error stay.
pub fn run_batches(
    run: BatchRun,
    sink: &mut dyn FnMut(TrainEvent),
    control: &dyn Fn() -> Option<Control>,
) -> Result<Outcome, TrainError> {
    let BatchRun { model, batches, config, job, resume, answers } = run;
    let trainable = model.trainable();
    let strategy = strategies::find(config)?;
    let batches = Mutex::new(batches);
    thread::scope(|scope| {
        let batches = &mut Ahead::new(scope, &batches);
        let run = BatchRun { model, batches, config, job, resume, answers };
        Training::new(run, &trainable, strategy.as_ref(), sink, control)?.run()
    })
}

/// What is told once the steps are planned.
pub(crate) fn prepared(data: &Prepared, total_steps: u64) -> TrainEvent {
    TrainEvent::Prepared {
        train_rows: data.train.len() as u64,
        eval_rows: data.eval.len() as u64,
        truncated_rows: data.stats.truncated_rows,
        skipped_rows: data.stats.skipped_rows,
        tokens_per_epoch: data.stats.tokens_per_epoch,
        trained_tokens_per_epoch: data.stats.trained_tokens_per_epoch,
        max_seq_length: data.max_seq_length as u64,
        total_steps,
    }
}

/// A run under way.
pub(crate) struct Training<'a> {
    pub(crate) batches: &'a mut dyn Batches,
    pub(crate) config: &'a TrainingConfig,
    pub(crate) job: &'a JobFolder,
    pub(crate) answers: Option<&'a dyn Answers>,
    pub(crate) sink: &'a mut dyn FnMut(TrainEvent),
    pub(crate) control: &'a dyn Fn() -> Option<Control>,
    pub(crate) trainable: &'a [(String, Var)],
    pub(crate) backward: Backward<'a>,
    /// One for each tensor of `trainable`, as are the gradients.
    optimizers: Vec<Box<dyn Optimizer>>,
    pub(crate) gradients: Gradients,
    schedule: &'static dyn Schedule,
    span: Span,
    pub(crate) progress: Progress,
    /// Where it learns from rewards: what that takes.
    pub(crate) policy: Option<Policy<'a>>,
    /// The step of the newest complete checkpoint.
    saved: Option<u64>,
    saver: Saver,
    /// When the newest checkpoint was begun, or the run.
    saved_at: Instant,
    started: Instant,
    elapsed_before: Duration,
}

impl<'a> Training<'a> {
    pub(crate) fn new(
        run: BatchRun<'a>,
        trainable: &'a [(String, Var)],
        strategy: &'a dyn Strategy,
        sink: &'a mut dyn FnMut(TrainEvent),
        control: &'a dyn Fn() -> Option<Control>,
    ) -> Result<Self, TrainError> {
        let BatchRun { model, batches, config, job, resume, answers } = run;
        check_adapter(trainable)?;
        let total = batches.total_steps();
        if total == 0 {
            return Err(TrainError::NoRows);
        }
        let parameters = trainable.iter().map(|(name, var)| Parameter {
            len: var.elem_count(),
            weight_decay: if decays(name) { config.weight_decay } else { 0.0 },
        });
        let mut optimizers = optimizers::build(config.optim, parameters)?;
        optimizers.iter_mut().for_each(|optimizer| optimizer.page(job.path()));
        let fallback = Fallback::read(job).map_err(TrainError::file(job.fallback()))?;
        let checkpointing = fallback.map_or(config.gradient_checkpointing, |f| f.gradient_checkpointing);
        let mut progress = Progress::default();
        if let Some(checkpoint) = &resume {
            checkpoint.restore(total, trainable, &mut optimizers)?;
            progress = checkpoint.progress().clone();
            check_cursor(checkpoint, batches)?;
            // An engine that was killed right after its checkpoint had a name left those it makes needless.
            checkpoint::remove_superseded(job, &progress, config.save_total_limit as usize)?;
            for message in checkpoint.skipped() {
                sink(TrainEvent::Warning { message: message.clone() });
            }
        }
        if model.multiplies_f16() {
            progress.loss_scale.get_or_insert_default();
        }
        Ok(Self {
            batches,
            config,
            job,
            answers,
            sink,
            control,
            trainable,
            backward: Backward {
                model,
                strategy,
                trainable,
                checkpointing,
                offload: config.activation_offloading,
            },
            optimizers,
            gradients: Gradients::of(trainable)?,
            schedule: schedules::find(config.lr_scheduler_type)?,
            span: Span::new(total, config.warmup_ratio, config.learning_rate),
            saved: resume.as_ref().map(Checkpoint::step),
            saver: Saver::default(),
            saved_at: Instant::now(),
            started: Instant::now(),
            elapsed_before: Duration::from_millis(progress.elapsed_ms),
            progress,
            policy: None,
        })
    }

    pub(crate) fn run(mut self) -> Result<Outcome, TrainError> {
        let outcome = self.run_to_end();
        // A checkpoint that is complete is told even where the run fails.
        let settled = self.settle();
        outcome.and_then(|outcome| settled.map(|()| outcome))
    }

    fn run_to_end(&mut self) -> Result<Outcome, TrainError> {
        self.evaluate_base()?;
        (self.sink)(TrainEvent::Phase { phase: Phase::Training });
        loop {
            let step = self.progress.step;
            let early = step > 0 && ((self.control)() == Some(Control::Finish) || self.stalled());
            let last = early || step >= self.span.total;
            let evaluated = if self.due(self.config.eval_steps, last) { self.evaluate(last)? } else { true };
            let finished = last && evaluated;
            let order = (self.control)();
            if !finished && evaluated && step > 0 && (order == Some(Control::Finish) || self.stalled()) {
                // The order came during the evaluation, or the evaluation was the last straw.
                continue;
            }
            let stopping = !finished && (!evaluated || order.is_some());
            let due = self.due(self.config.save_steps, last) || self.due_by_time();
            if due || (stopping && step > 0) || self.is_best() {
                self.save()?;
            }
            if finished || stopping {
                self.settle()?;
            }
            if finished {
                let best = self.load_best();
                return Ok(Outcome::Finished(self.summary(best.as_ref())));
            }
            if stopping {
                if order == Some(Control::Finish) {
                    let message =
                        "no step has been done yet, so there is no model to keep; the run is paused";
                    (self.sink)(TrainEvent::Warning { message: message.into() });
                }
                let checkpoint = self.saved.map(|step| self.job.checkpoint(step));
                (self.sink)(TrainEvent::Stopped { step, checkpoint: checkpoint.clone() });
                return Ok(Outcome::Stopped { step, checkpoint });
            }
            self.step()?;
            let saved = self.saver.finished()?;
            self.tell(saved);
        }
    }

    /// Whether the newest checkpoint is older than it is to become. The clock is one that nobody can set.
    fn due_by_time(&self) -> bool {
        let minutes = self.config.save_minutes;
        self.progress.step > 0 && minutes > 0.0 && self.saved_at.elapsed().as_secs_f64() >= 60.0 * minutes
    }

    /// Whether something that happens every so many steps and after the last one happens now.
    fn due(&self, every: u32, last: bool) -> bool {
        let step = self.progress.step;
        step > 0 && (last || step.is_multiple_of(u64::from(every.max(1))))
    }

    /// Does one step, saves and evaluates nothing.
    pub(crate) fn step(&mut self) -> Result<(), TrainError> {
        if let Some(policy) = self.policy {
            return self.policy_step(policy);
        }
        let started = Instant::now();
        let done = self.progress.step;
        let group = self.batches.step(done)?;
        // Counted before the first backward pass: each gradient is scaled by the terms of the whole step.
        let terms: usize = group.batches.iter().map(|b| self.backward.strategy.terms(b)).sum();
        let mut total = Total { sum: 0.0, terms };
        let mut observed = Observed::default();
        let mean = 1.0 / terms as f64;
        let scale = mean * self.loss_scale();
        if terms == 0 {
            return Err(TrainError::NothingToTrain { step: done + 1 });
        }
        self.gradients.reset()?;
        for (micro_batch, batch) in (0..).zip(&group.batches) {
            let seed = seeds::dropout(self.config.seed, done, micro_batch);
            let pass = Pass { dropout_seed: Some(seed), ..Pass::EVAL };
            let computed = self.backward.run(batch, pass, scale, &mut self.gradients)?;
            total.sum += computed.sum;
            observed.extend(computed.observed);
        }
        let loss = total.sum * mean;
        self.check_finite("the loss", loss)?;
        // As in transformers, steps that were left out do not move the schedule.
        let skipped = self.progress.loss_scale.map_or(0, |scale| scale.skipped());
        let learning_rate = self.learning_rate(done - skipped);
        let mut metrics = observed.means();
        self.note_loss_scale(&mut metrics);
        let grad_norm = self.learn(done + 1, learning_rate)?;

        let tokens: u64 = group.batches.iter().map(|b| b.tokens() as u64).sum();
        let trained_tokens: u64 = group.batches.iter().map(|b| b.trained_tokens() as u64).sum();
        let progress = &mut self.progress;
        progress.step += 1;
        progress.cursor = group.end;
        progress.tokens += tokens;
        progress.trained_tokens += trained_tokens;
        progress.push_loss(loss);
        progress.elapsed_ms = (self.elapsed_before + self.started.elapsed()).as_millis() as u64;
        (self.sink)(TrainEvent::Step(StepStats {
            step: progress.step,
            total_steps: self.span.total,
            epoch: group.epoch,
            loss,
            learning_rate,
            grad_norm,
            tokens,
            trained_tokens,
            step_ms: started.elapsed().as_secs_f64() * 1e3,
            elapsed_ms: progress.elapsed_ms,
            metrics,
        }));
        Ok(())
    }

    /// What the loss is multiplied by before its gradient is taken; 1 where nothing is in f16.
    pub(crate) fn loss_scale(&self) -> f64 {
        match &self.progress.loss_scale {
            Some(scale) if self.backward.model.multiplies_f16() => scale.factor(),
            _ => 1.0,
        }
    }

    /// Adds the scale in force to the metrics of a step, where there is one.
    pub(crate) fn note_loss_scale(&self, metrics: &mut BTreeMap<String, f64>) {
        if self.backward.model.multiplies_f16() {
            metrics.insert("loss_scale".to_owned(), self.loss_scale());
        }
    }

    /// Clips the gradients and updates the weights by them; gives their norm before. With a loss scale, gradients that left the range
    /// of f16 are no failure: they change nothing but the scale, and their norm is given as 0. `step` counts from 1, those that were
    /// left out included.
    pub(crate) fn learn(&mut self, step: u64, learning_rate: f64) -> Result<f64, TrainError> {
        let norm = self.gradients.clip_scaled(self.config.max_grad_norm, self.loss_scale())?;
        let scaled = self.backward.model.multiplies_f16();
        let skipped = self.progress.loss_scale.map_or(0, |scale| scale.skipped());
        if let Some(scale) = self.progress.loss_scale.as_mut().filter(|_| scaled) {
            if norm.is_finite() {
                scale.grow();
            } else if scale.shrink() {
                return Ok(0.0);
            }
        }
        self.check_finite("the gradient", norm)?;
        self.update(step - skipped, learning_rate)?;
        Ok(norm)
    }

    /// Updates the weights where they are, several tensors at once. No tape is alive that would see them change.
    fn update(&mut self, step: u64, learning_rate: f64) -> Result<(), TrainError> {
        let finite = match self.gradients.sums() {
            Sums::Host(gradients) => {
                let tensors = self.trainable.par_iter().zip(&mut self.optimizers).zip(gradients);
                let finite = tensors.map(|(((_, var), optimizer), gradient)| {
                    tensors::change(var, |weights| optimizer.update(weights, gradient, step, learning_rate))
                });
                finite.try_reduce(|| true, |a, b| Ok(a && b))?
            }
            #[cfg(feature = "cuda")]
            Sums::Card(gradients) => {
                let mut finite = true;
                let tensors = self.trainable.iter().zip(&mut self.optimizers);
                for (index, ((_, var), optimizer)) in tensors.enumerate() {
                    finite &= optimizer.update_on_card(var, (gradients, index), step, learning_rate)?;
                }
                gradients.all_finite()? && finite
            }
        };
        if finite { Ok(()) } else { self.check_finite("a weight", f64::NAN) }
    }

    /// Of the step after so many.
    pub(crate) fn learning_rate(&self, done: u64) -> f64 {
        self.span.learning_rate(self.schedule, done)
    }

    /// Gives up on a policy. Where its newest checkpoint is of the very weights that are no good, the one before is the last good
    /// one.
    pub(crate) fn stopped_by_guard(&mut self, why: String) -> TrainError {
        if let Err(error) = self.settle() {
            return error;
        }
        let step = self.progress.step;
        let steps = self.job.checkpoints().unwrap_or_default();
        let good = steps.into_iter().filter(|&saved| saved < step).max();
        if good.is_some() && self.saved == Some(step) && checkpoint::remove(self.job, step).is_ok() {
            self.saved = good;
        }
        TrainError::Guard { step: step + 1, why, checkpoint: self.saved }
    }

    pub(crate) fn check_finite(&mut self, what: &'static str, value: f64) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        self.settle()?;
        Err(TrainError::NotFinite {
            step: self.progress.step + 1,
            what,
            learning_rate: self.config.learning_rate,
            checkpoint: self.saved,
        })
    }

    /// Begins to write a checkpoint unless there is one of this very step.
    fn save(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        if self.saved == Some(step) || self.saver.step() == Some(step) {
            return Ok(());
        }
        self.settle()?;
        self.progress.elapsed_ms = self.elapsed().as_millis() as u64;
        let (job, config, total, progress) = (self.job, self.config, self.span.total, &self.progress);
        let snapshot = Snapshot::of(job, config, total, progress, self.trainable, &mut self.optimizers)?;
        self.saved_at = Instant::now();
        let saved = self.saver.start(snapshot)?;
        self.tell(saved);
        Ok(())
    }

    /// Waits for the checkpoint that is being written.
    fn settle(&mut self) -> Result<(), TrainError> {
        let saved = self.saver.wait()?;
        self.tell(saved);
        Ok(())
    }

    fn tell(&mut self, saved: Option<Saved>) {
        if let Some(Saved { step, path }) = saved {
            self.saved = Some(step);
            (self.sink)(TrainEvent::Checkpoint { step, path });
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed_before + self.started.elapsed()
    }

    /// `best`: what the run had done at the best step, where the model is of that one.
    fn summary(&self, best: Option<&Progress>) -> Summary {
        let of = best.unwrap_or(&self.progress);
        let values = |metrics: &BTreeMap<String, Exact>| {
            metrics.iter().map(|(name, value)| (name.clone(), value.0)).collect::<BTreeMap<_, _>>()
        };
        let last_losses: Vec<f64> = of.last_losses.iter().map(|loss| loss.0).collect();
        let mut metrics = metrics::measure(&Measured { last_losses: &last_losses, ..Measured::default() });
        metrics.extend(values(&of.metrics));
        Summary {
            metrics,
            base_metrics: values(&self.progress.base_metrics),
            answered_rows: of.answered_rows,
            best_step: best.map(|best| best.step),
            stalled: self.stalled() && self.progress.step < self.span.total,
            steps: self.progress.step,
            planned_steps: self.span.total,
            tokens: self.progress.tokens,
            trained_tokens: self.progress.trained_tokens,
            seconds: self.elapsed().as_secs_f64(),
        }
    }
}

fn check_adapter(trainable: &[(String, Var)]) -> Result<(), TrainError> {
    if trainable.is_empty() {
        return Err(TrainError::NoAdapter);
    }
    match trainable.iter().find(|(_, var)| var.dtype() != DType::F32) {
        None => Ok(()),
        Some((name, var)) => {
            Err(TrainError::AdapterDtype { name: name.clone(), dtype: var.dtype().as_str().to_owned() })
        }
    }
}

/// The data must put the end of the last step done where the checkpoint does.
fn check_cursor(checkpoint: &Checkpoint, batches: &mut dyn Batches) -> Result<(), TrainError> {
    let progress = checkpoint.progress();
    let Some(last) = progress.step.checked_sub(1) else { return Ok(()) };
    let end = batches.step(last)?.end;
    if end == progress.cursor {
        return Ok(());
    }
    Err(checkpoint.foreign(format!("its place in the data was {:?}, now it is {end:?}", progress.cursor)))
}
