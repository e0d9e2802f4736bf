//! A reward model: an adapter and a scalar head that give the better of two answers the higher number (Bradley and Terry 1952).

use std::{sync::Mutex, thread};

use candle_core::{Result, Tensor, bail};
use data::{Batch, Prepared};
use models::{Model, ModelView, Pass};
use types::{
    EvalMetric, Fallback, JobFolder, LossType, Strategy as Name, TrainEvent, TrainingConfig, engine::Control,
};

use super::{losses::preference, rollout::ends};
use crate::{
    BatchRun, Batches, Checkpoint, EpochBatches, Outcome, TrainError,
    ahead::Ahead,
    metrics::Observed,
    run::Training,
    strategies::{Loss, Strategy, with_gradient},
};

/// The mean over pairs of `−log σ(reward of the better answer − reward of the worse one)`, trl's `RewardTrainer`; the reward of an
/// answer is what the scalar head makes of the token that ends it.
pub struct RewardPairs;

impl Strategy for RewardPairs {
    fn terms(&self, batch: &Batch) -> usize {
        batch.lengths.len() / 2
    }

    fn loss(&self, model: &dyn Model, hidden: &Tensor, batch: &Batch, pass: Pass) -> Result<Loss> {
        let ModelView::Causal(model) = model.view() else {
            bail!("only decoder-only models have a scalar head");
        };
        let scores = model.score(hidden, pass)?;
        let (values, ends) = (scores.to_vec1::<f32>()?, ends(batch));
        let rewards: Vec<f64> = ends.iter().map(|&end| f64::from(values[end])).collect();
        let pairs = rewards.as_chunks::<2>().0;
        let terms: Vec<_> = pairs.iter().map(|&[chosen, rejected]| preference(chosen, rejected)).collect();
        let mut slopes = vec![0f32; values.len()];
        for (&end, slope) in ends.iter().zip(terms.iter().flat_map(|term| [term.slope, -term.slope])) {
            slopes[end] = slope as f32;
        }
        let sum = with_gradient(&scores, slopes, terms.iter().map(|term| term.loss).sum())?;
        let mut observed = Observed::default();
        let right = pairs.iter().map(|[chosen, rejected]| f64::from(u8::from(chosen > rejected)));
        observed.add(EvalMetric::RewardAccuracies.name(), right);
        observed
            .add(EvalMetric::RewardMargins.name(), pairs.iter().map(|[chosen, rejected]| chosen - rejected));
        observed.add("rewards/chosen", pairs.iter().map(|[chosen, _]| *chosen));
        observed.add("rewards/rejected", pairs.iter().map(|[_, rejected]| *rejected));
        Ok(Loss { sum, observed })
    }
}

/// The settings of the reward model's own training, out of those of a run that learns from rewards.
fn settings(config: &TrainingConfig) -> TrainingConfig {
    TrainingConfig {
        // Its rows are pairs, whose base nobody asks for.
        strategy: Name::Dpo,
        loss_type: LossType::Orpo,
        learning_rate: config.reward_learning_rate,
        num_train_epochs: config.reward_num_train_epochs,
        max_steps: -1,
        packing: false,
        metric_for_best_model: None,
        load_best_model_at_end: false,
        early_stopping_patience: 0,
        ..config.clone()
    }
}

/// Trains the adapter and the scalar head of a model on pairs of answers. `job` is a folder for its own checkpoints, from which
/// it goes on where there are any.
///
/// # Errors
/// See [`TrainError`]; rows that are no pairs are one.
pub fn train_reward_model(
    model: &dyn Model,
    data: &Prepared,
    config: &TrainingConfig,
    job: &JobFolder,
    sink: &mut dyn FnMut(TrainEvent),
    control: &dyn Fn() -> Option<Control>,
) -> std::result::Result<Outcome, TrainError> {
    if !data.train.is_empty() && data.train.read(0).map_err(TrainError::Rows)?.rejected.is_none() {
        return Err(TrainError::NoPairs);
    }
    let config = &settings(config);
    let resume = Checkpoint::newest(job, config)?;
    let mut batches = EpochBatches::new(data, config)?;
    if let Some(fallback) = Fallback::read(job).map_err(TrainError::file(job.fallback()))? {
        batches = batches.in_parts(&fallback);
    }
    let trainable = model.trainable();
    let batches: Mutex<&mut dyn Batches> = Mutex::new(&mut batches);
    thread::scope(|scope| {
        let batches = &mut Ahead::new(scope, &batches);
        let run = BatchRun { model, batches, config, job, resume, answers: None };
        Training::new(run, &trainable, &RewardPairs, sink, control)?.run()
    })
}
