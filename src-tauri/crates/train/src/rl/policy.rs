//! The loss of a policy on answers that it wrote before, and of its values.

use candle_core::{Result, Tensor, bail};
use data::{Batch, IGNORED};
use models::{Model, ModelView, Pass};
use types::{RlAlgorithm, TrainingConfig};

use super::{
    kl::{k3, k3_slope},
    losses::{clipped_policy, clipped_value},
    rollout::Answer,
};
use crate::{
    metrics::Observed,
    strategies::{Loss, Strategy, with_gradient},
};

/// A loss over the tokens of some answers, in the order of a batch of them: PPO's of policy and values, or GRPO's of the policy
/// and its divergence.
pub(crate) struct PolicyLoss<'a> {
    pub config: &'a TrainingConfig,
    pub answers: Vec<&'a Answer>,
    /// Weight of the divergence, where it is a part of the loss.
    pub kl_coef: f64,
}

impl Strategy for PolicyLoss<'_> {
    fn terms(&self, batch: &Batch) -> usize {
        batch.trained_tokens()
    }

    fn loss(&self, model: &dyn Model, hidden: &Tensor, batch: &Batch, pass: Pass) -> Result<Loss> {
        let ModelView::Causal(model) = model.view() else {
            bail!("only decoder-only models learn from rewards");
        };
        let config = self.config;
        let ppo = config.rl_algorithm == RlAlgorithm::Ppo;
        let log_probs = model.token_log_probs_at(hidden, &batch.targets, config.temperature)?;
        let now = log_probs.to_vec1::<f32>()?;
        let values = if ppo { Some(model.score(hidden, pass)?) } else { None };
        let values_now = values.as_ref().map(Tensor::to_vec1::<f32>).transpose()?;
        let places = batch.targets.iter().enumerate().filter(|(_, target)| **target != IGNORED);
        let tokens = self.answers.iter().flat_map(|answer| (0..answer.len()).map(move |t| (*answer, t)));

        let (mut slopes, mut value_slopes) = (vec![0f32; now.len()], vec![0f32; now.len()]);
        let (mut policy_loss, mut value_loss) = (Vec::new(), Vec::new());
        let (mut clipped, mut values_clipped) = (Vec::new(), Vec::new());
        let mut total = 0.0;
        for ((place, _), (answer, t)) in places.zip(tokens) {
            let new = f64::from(now[place]);
            let term = clipped_policy(new, answer.log_probs[t], answer.advantages[t], config.cliprange);
            let (mut loss, mut slope) = (term.loss, term.slope);
            if !ppo {
                loss += self.kl_coef * k3(new, answer.reference[t]);
                slope += self.kl_coef * k3_slope(new, answer.reference[t]);
            }
            slopes[place] = slope as f32;
            total += loss;
            policy_loss.push(term.loss);
            clipped.push(f64::from(u8::from(term.clipped)));
            if let Some(values) = &values_now {
                let (new, old) = (f64::from(values[place]), answer.values[t]);
                let term = clipped_value(new, old, answer.returns[t], config.cliprange_value);
                value_slopes[place] = (config.vf_coef * term.slope) as f32;
                total += config.vf_coef * term.loss;
                value_loss.push(term.loss);
                values_clipped.push(f64::from(u8::from(term.clipped)));
            }
        }
        let mut sum = with_gradient(&log_probs, slopes, total)?;
        if let Some(values) = &values {
            sum = (sum + with_gradient(values, value_slopes, 0.0)?)?;
        }
        let mut observed = Observed::default();
        observed.add("policy_loss", policy_loss);
        observed.add("clip_fraction", clipped);
        if ppo {
            observed.add("value_loss", value_loss);
            observed.add("value_clip_fraction", values_clipped);
        }
        Ok(Loss { sum, observed })
    }
}

/// The rows of a run that learns from rewards: prompts, and answers of their own to compare with. They have no loss themselves.
pub struct Prompts;

impl Strategy for Prompts {
    fn collate(&self, rows: &[data::Encoded]) -> Batch {
        let mut batch = Batch::default();
        rows.iter().for_each(|row| batch.push(&row.ids, &row.trained));
        batch
    }

    fn terms(&self, batch: &Batch) -> usize {
        batch.lengths.len()
    }

    fn loss(&self, _: &dyn Model, _: &Tensor, _: &Batch, _: Pass) -> Result<Loss> {
        bail!("prompts have no loss")
    }
}
