//! Direct preference optimisation and its kin: the better of two answers is made likelier than the worse one, measured against
//! the base model. No reward model, and no second model in memory: the base's likelihoods are known before the first step.

use std::cmp::Ordering;

use candle_core::{Result, Tensor, bail};
use data::Batch;
use models::{Model, ModelView, Pass};
use types::{EvalMetric, LossType, TrainingConfig};

use super::{
    Loss, Strategy,
    pair_loss::{Likelihood, Pair, Preference},
};
use crate::metrics::Observed;

/// The mean over pairs of what [`Preference`] makes of them. Sequences of a batch come in pairs, the better answer first.
pub struct Dpo(Preference);

impl Dpo {
    /// As the settings say.
    pub fn new(config: &TrainingConfig) -> Self {
        let &TrainingConfig { loss_type, beta, label_smoothing, .. } = config;
        Self(Preference { loss_type, beta, label_smoothing })
    }

    /// Whose answers are likely, and how far the model has gone from the base; names as trl's.
    fn observe(&self, pairs: &[Pair], losses: &[super::pair_loss::PairLoss]) -> Observed {
        let mut observed = Observed::default();
        let of = |likelihood: &Likelihood| match self.0.loss_type {
            LossType::Orpo => likelihood.log_prob / likelihood.tokens.max(1) as f64,
            _ => likelihood.log_prob,
        };
        // Neither of two equal ones is the better: a guess is right every second time.
        let right = |chosen: f64, rejected: f64| match chosen.partial_cmp(&rejected) {
            Some(Ordering::Greater) => 1.0,
            Some(Ordering::Equal) => 0.5,
            _ => 0.0,
        };
        let accuracies = losses.iter().map(|loss| right(loss.chosen_reward, loss.rejected_reward));
        let margins = losses.iter().map(|loss| loss.chosen_reward - loss.rejected_reward);
        observed.add(EvalMetric::RewardAccuracies.name(), accuracies);
        observed.add(EvalMetric::RewardMargins.name(), margins);
        observed.add("rewards/chosen", losses.iter().map(|loss| loss.chosen_reward));
        observed.add("rewards/rejected", losses.iter().map(|loss| loss.rejected_reward));
        observed.add("logps/chosen", pairs.iter().map(|pair| of(&pair.chosen)));
        observed.add("logps/rejected", pairs.iter().map(|pair| of(&pair.rejected)));
        observed
    }
}

impl Strategy for Dpo {
    fn terms(&self, batch: &Batch) -> usize {
        batch.lengths.len() / 2
    }

    fn loss(&self, model: &dyn Model, hidden: &Tensor, batch: &Batch, _pass: Pass) -> Result<Loss> {
        let ModelView::Causal(model) = model.view() else {
            bail!("answers can be compared by decoder-only models only");
        };
        let sequences = batch.lengths.len();
        if !sequences.is_multiple_of(2) || (self.needs_reference() && batch.reference.len() != sequences) {
            let known = batch.reference.len();
            bail!("{sequences} sequences, {known} of them known to the base model, are no pairs of answers");
        }
        let log_probs = model.token_log_probs(hidden, &batch.targets)?;
        let likelihoods = likelihoods(&log_probs.to_vec1::<f32>()?, batch);
        let pairs: Vec<Pair> = likelihoods
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[chosen, rejected]| Pair { chosen, rejected })
            .collect();
        let losses = self.0.losses(&pairs);
        let slopes = losses.iter().flat_map(|loss| [loss.by_chosen as f32, loss.by_rejected as f32]);
        let slopes: Vec<f32> = slopes
            .zip(&batch.lengths)
            .flat_map(|(slope, &length)| std::iter::repeat_n(slope, length))
            .collect();
        let sum = with_gradient(&log_probs, slopes, losses.iter().map(|loss| loss.loss).sum())?;
        Ok(Loss { sum, observed: self.observe(&pairs, &losses) })
    }

    fn needs_reference(&self) -> bool {
        self.0.loss_type != LossType::Orpo
    }
}

/// How likely the answer of each sequence is, from the log-probabilities of all tokens.
pub(crate) fn likelihoods(log_probs: &[f32], batch: &Batch) -> Vec<Likelihood> {
    let mut first = 0;
    let each = batch.lengths.iter().enumerate().map(|(index, &length)| {
        let own = first..first + length;
        first = own.end;
        Likelihood {
            log_prob: log_probs[own.clone()].iter().map(|&v| f64::from(v)).sum(),
            reference: batch.reference.get(index).map_or(0.0, |&v| f64::from(v)),
            tokens: batch.targets[own].iter().filter(|&&target| target != data::IGNORED).count(),
        }
    });
    each.collect()
}

/// The scalar `value`, whose gradient by `x` is known.
pub(crate) fn with_gradient(x: &Tensor, gradient: Vec<f32>, value: f64) -> Result<Tensor> {
    let linear = (x * Tensor::from_vec(gradient, x.dims(), x.device())?)?.sum_all()?;
    // Where a value is not finite the difference is not either, so that it is noticed.
    (&linear - linear.detach())? + value
}
