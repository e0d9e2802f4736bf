//! Where the loop gets its micro-batches from.

use data::{Batch, Encoded, PlanOptions, Prepared, TokenRows, plan_epoch};
use serde::{Deserialize, Serialize};
use types::{Fallback, TrainingConfig};

use crate::{
    TrainError,
    reference::Reference,
    strategies::{self, Strategy},
};

/// Micro-batches are computed together up to this many tokens, which is enough for full speed.
pub(crate) const JOINED_TOKENS: usize = 512;

/// A place in the data: everything before it has been trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Counts from 0.
    pub epoch: u64,
    /// Micro-batches of that epoch.
    pub micro_batch: u64,
}

/// The micro-batches of one optimizer step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepBatches {
    /// Computed one after the other; their gradients are added up. One can hold several neighbouring micro-batches.
    pub batches: Vec<Batch>,
    /// The place after them.
    pub end: Cursor,
    /// Epochs done after them, with the fraction of the current one.
    pub epoch: f64,
}

/// The data of a run, step by step. The same step always gives the same batches. They are made on another thread than
/// they are computed on.
pub trait Batches: Send {
    /// Optimizer steps of the whole run.
    fn total_steps(&self) -> u64;

    /// The micro-batches of a step; `step` counts from 0.
    ///
    /// # Errors
    /// They cannot be read.
    fn step(&mut self, step: u64) -> Result<StepBatches, TrainError>;

    /// How many batches there are to evaluate on.
    fn eval_len(&self) -> usize;

    /// One of them.
    ///
    /// # Errors
    /// It cannot be read.
    fn eval(&mut self, index: usize) -> Result<Batch, TrainError>;
}

/// Batches given one by one, the micro-batches of each step in a list.
#[derive(Debug, Clone, Default)]
pub struct GivenBatches {
    /// The steps of the run.
    pub steps: Vec<Vec<Batch>>,
    /// What to evaluate on.
    pub eval: Vec<Batch>,
}

impl Batches for GivenBatches {
    fn total_steps(&self) -> u64 {
        self.steps.len() as u64
    }

    fn step(&mut self, step: u64) -> Result<StepBatches, TrainError> {
        let done = usize::try_from(step).unwrap_or(usize::MAX);
        let batches = self.steps.get(done).ok_or(TrainError::NoRows)?.clone();
        let micro_batch = self.steps.iter().take(done + 1).map(|s| s.len() as u64).sum();
        let epoch = (step + 1) as f64 / self.steps.len() as f64;
        Ok(StepBatches { batches, end: Cursor { epoch: 0, micro_batch }, epoch })
    }

    fn eval_len(&self) -> usize {
        self.eval.len()
    }

    fn eval(&mut self, index: usize) -> Result<Batch, TrainError> {
        self.eval.get(index).cloned().ok_or(TrainError::NoRows)
    }
}

/// The batches of a prepared dataset: epochs in a seeded order, the last accumulation of each epoch with as many
/// micro-batches as are left, as in transformers.
///
/// Short neighbouring micro-batches of a step are computed as one: its gradient is a sum over their tokens, and few tokens
/// at a time compute slowly. They have no more tokens together than a whole number of the largest there may be, which is
/// what the estimate of a run's memory reckons with.
pub struct EpochBatches<'a> {
    data: &'a Prepared,
    strategy: Box<dyn Strategy>,
    /// Where the strategy needs it.
    reference: Option<Reference>,
    options: PlanOptions,
    accumulation: usize,
    /// The most tokens of micro-batches that are computed together.
    most_joined: usize,
    /// Micro-batches are computed in parts of so many rows, or under packing of so many tokens; whole without.
    part: Option<usize>,
    total_steps: u64,
    eval_batch: usize,
    epoch: Epoch,
}

/// The plan of one epoch and where it begins.
struct Epoch {
    number: u64,
    first_step: u64,
    plan: Vec<Vec<usize>>,
}

impl<'a> EpochBatches<'a> {
    /// Plans a run.
    ///
    /// # Errors
    /// There are no rows, or the strategy has no code.
    pub fn new(data: &'a Prepared, config: &TrainingConfig) -> Result<Self, TrainError> {
        let options = PlanOptions {
            batch_size: config.per_device_train_batch_size as usize,
            packing: config.packing,
            max_seq_length: data.max_seq_length,
            group_by_length: config.group_by_length,
            seed: config.seed,
            epoch: 0,
        };
        let longest = (0..data.train.len()).map(|row| data.train.length(row)).max().unwrap_or(0);
        let widest = if config.packing { longest.max(data.max_seq_length) } else { longest };
        let largest = options.batch_size.saturating_mul(widest).clamp(1, JOINED_TOKENS);
        let mut batches = Self {
            data,
            strategy: strategies::find(config)?,
            reference: None,
            accumulation: config.gradient_accumulation_steps.max(1) as usize,
            most_joined: JOINED_TOKENS / largest * largest,
            part: None,
            total_steps: 0,
            eval_batch: config.per_device_eval_batch_size.max(1) as usize,
            epoch: Epoch { number: 0, first_step: 0, plan: plan_epoch(&data.train, &options) },
            options,
        };
        if batches.epoch.plan.is_empty() {
            return Err(TrainError::NoRows);
        }
        batches.total_steps = match u64::try_from(config.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => batches.steps_of_epochs(u64::from(config.num_train_epochs)),
        };
        Ok(batches)
    }

    /// Computes micro-batches in parts, as a run does that ran out of memory. The rows of a step and their order stay; parts of one
    /// micro-batch are not computed together with those of another.
    pub fn in_parts(mut self, fallback: &Fallback) -> Self {
        let parts = fallback.batch_parts.max(1) as usize;
        let micro_batch = match self.options.packing {
            true => self.options.batch_size.saturating_mul(self.options.max_seq_length),
            false => self.options.batch_size,
        };
        self.part = Some(micro_batch.div_ceil(parts).max(1));
        self.eval_batch = self.eval_batch.div_ceil(parts);
        self
    }

    /// Whether [`compared_with`](Self::compared_with) has to be called before the first batch.
    pub(crate) fn needs_reference(&self) -> bool {
        self.strategy.needs_reference()
    }

    /// Gives each batch what the base model finds of its answers.
    pub(crate) fn compared_with(&mut self, reference: Reference) {
        self.reference = Some(reference);
    }

    /// Tokens of all steps of the run, evaluations aside.
    pub fn planned_tokens(&self) -> f64 {
        let epochs = self.total_steps as f64 / self.steps(&self.plan(0)) as f64;
        epochs * self.data.stats.tokens_per_epoch as f64
    }

    /// The steps of the run that need the most memory: the one with the most tokens computed at once, and of the others
    /// the one with the longest row, since attention grows with its square.
    pub fn heaviest_steps(&self) -> Vec<u64> {
        let rows = &self.data.train;
        let mut weights: Vec<(u64, usize, usize)> = Vec::new();
        let epochs = (0..).map(|epoch| self.plan(epoch)).take_while(|plan| !plan.is_empty());
        for (step, group) in (0..self.total_steps).zip(epochs.flat_map(|plan| self.groups(&plan))) {
            let tokens = |batch: &Vec<usize>| batch.iter().map(|&row| rows.length(row)).sum::<usize>();
            let longest = group.iter().flatten().map(|&row| rows.length(row)).max();
            weights.push((step, group.iter().map(tokens).max().unwrap_or(0), longest.unwrap_or(0)));
        }
        let most_tokens = weights.iter().max_by_key(|(_, tokens, longest)| (*tokens, *longest)).map(|w| w.0);
        weights.retain(|w| Some(w.0) != most_tokens);
        let longest_row = weights.iter().max_by_key(|(_, tokens, longest)| (*longest, *tokens)).map(|w| w.0);
        most_tokens.into_iter().chain(longest_row).collect()
    }

    /// What is computed in each step of an epoch.
    fn groups(&self, plan: &[Vec<usize>]) -> Vec<Vec<Vec<usize>>> {
        plan.chunks(self.accumulation).map(|micro_batches| self.joined(micro_batches)).collect()
    }

    /// Micro-batches of one step, neighbours together as far as they fit; or in parts, where they are too large already.
    fn joined(&self, micro_batches: &[Vec<usize>]) -> Vec<Vec<usize>> {
        if let Some(part) = self.part {
            return micro_batches.iter().flat_map(|rows| self.parts(rows, part)).collect();
        }
        let mut joined: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for rows in micro_batches {
            let tokens = rows.iter().map(|&row| self.data.train.length(row)).sum();
            match joined.last_mut() {
                Some(last) if tokens <= room => {
                    last.extend(rows);
                    room -= tokens;
                }
                _ => {
                    joined.push(rows.clone());
                    room = self.most_joined.saturating_sub(tokens);
                }
            }
        }
        joined
    }

    fn parts(&self, rows: &[usize], part: usize) -> Vec<Vec<usize>> {
        if !self.options.packing {
            return rows.chunks(part).map(<[usize]>::to_vec).collect();
        }
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for &row in rows {
            let tokens = self.data.train.length(row);
            match parts.last_mut() {
                Some(last) if tokens <= room => last.push(row),
                _ => {
                    parts.push(vec![row]);
                    room = part.max(tokens);
                }
            }
            room -= tokens;
        }
        parts
    }

    fn steps_of_epochs(&self, epochs: u64) -> u64 {
        let first = self.steps(&self.epoch.plan);
        if self.options.packing {
            // How many bins an order of rows needs differs from epoch to epoch.
            first + (1..epochs).map(|epoch| self.steps(&self.plan(epoch))).sum::<u64>()
        } else {
            first * epochs
        }
    }

    fn plan(&self, epoch: u64) -> Vec<Vec<usize>> {
        plan_epoch(&self.data.train, &PlanOptions { epoch, ..self.options.clone() })
    }

    fn steps(&self, plan: &[Vec<usize>]) -> u64 {
        plan.len().div_ceil(self.accumulation) as u64
    }

    /// Moves to the epoch that `step` is in.
    fn seek(&mut self, step: u64) -> Result<(), TrainError> {
        if step < self.epoch.first_step {
            self.epoch = Epoch { number: 0, first_step: 0, plan: self.plan(0) };
        }
        loop {
            let next = self.epoch.first_step + self.steps(&self.epoch.plan);
            if step < next {
                return Ok(());
            }
            let number = self.epoch.number + 1;
            self.epoch = Epoch { number, first_step: next, plan: self.plan(number) };
            if self.epoch.plan.is_empty() {
                return Err(TrainError::NoRows);
            }
        }
    }

    fn collate(
        &self,
        rows: &TokenRows,
        reference: Option<&Vec<[f32; 2]>>,
        chosen: impl Iterator<Item = usize> + Clone,
    ) -> Result<Batch, TrainError> {
        let read = chosen.clone().map(|row| rows.read(row));
        let mut batch =
            self.strategy.collate(&read.collect::<Result<Vec<Encoded>, _>>().map_err(TrainError::Rows)?);
        let of_row =
            |row: usize| reference.and_then(|all| all.get(row)).map_or([].as_slice(), |both| both.as_slice());
        batch.reference = chosen.flat_map(of_row).copied().collect();
        Ok(batch)
    }
}

impl Batches for EpochBatches<'_> {
    fn total_steps(&self) -> u64 {
        self.total_steps
    }

    fn step(&mut self, step: u64) -> Result<StepBatches, TrainError> {
        self.seek(step)?;
        let plan = &self.epoch.plan;
        let from = (step - self.epoch.first_step) as usize * self.accumulation;
        let to = (from + self.accumulation).min(plan.len());
        let batches = self
            .joined(&plan[from..to])
            .iter()
            .map(|rows| {
                let reference = self.reference.as_ref().map(|reference| &reference.train);
                self.collate(&self.data.train, reference, rows.iter().copied())
            })
            .collect::<Result<_, _>>()?;
        let end = if to == plan.len() {
            Cursor { epoch: self.epoch.number + 1, micro_batch: 0 }
        } else {
            Cursor { epoch: self.epoch.number, micro_batch: to as u64 }
        };
        Ok(StepBatches { batches, end, epoch: self.epoch.number as f64 + to as f64 / plan.len() as f64 })
    }

    fn eval_len(&self) -> usize {
        self.data.eval.len().div_ceil(self.eval_batch)
    }

    fn eval(&mut self, index: usize) -> Result<Batch, TrainError> {
        let from = index * self.eval_batch;
        let reference = self.reference.as_ref().map(|reference| &reference.eval);
        self.collate(&self.data.eval, reference, from..(from + self.eval_batch).min(self.data.eval.len()))
    }
}
