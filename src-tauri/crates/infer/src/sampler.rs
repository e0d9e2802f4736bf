//! How the next token is chosen, with the formulas and in the order of transformers' logits processors: repetition
//! penalty, temperature, top-k, top-p, then one draw.

use std::collections::HashSet;

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use types::GenerateParams;

use crate::InferError;

/// Chooses tokens; the same seed and the same logits give the same tokens.
pub struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    repetition_penalty: f32,
    draw: LogitsProcessor,
}

impl Sampler {
    /// A sampler with these settings.
    pub fn new(params: &GenerateParams) -> Self {
        Sampler {
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            repetition_penalty: params.repetition_penalty,
            draw: LogitsProcessor::from_sampling(params.seed, Sampling::All { temperature: 1.0 }),
        }
    }

    /// The next token after `seen`, by the logits of all tokens.
    pub fn choose(&mut self, mut logits: Vec<f32>, seen: &[u32]) -> Result<u32, InferError> {
        if !logits.iter().all(|l| l.is_finite()) {
            return Err(InferError::NotFinite);
        }
        self.penalize(&mut logits, seen);
        if self.temperature == 0.0 {
            return likeliest(&logits).ok_or(InferError::NotFinite);
        }
        self.filter(&mut logits);
        let count = logits.len();
        Ok(self.draw.sample(&Tensor::from_vec(logits, count, &Device::Cpu)?)?)
    }

    /// Makes every token of `seen` less likely (Keskar et al. 2019, arXiv:1909.05858).
    fn penalize(&self, logits: &mut [f32], seen: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        for id in seen.iter().collect::<HashSet<_>>() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit < 0.0 {
                    *logit * self.repetition_penalty
                } else {
                    *logit / self.repetition_penalty
                };
            }
        }
    }

    /// Divides by the temperature and rules out what top-k and top-p do not keep.
    fn filter(&self, logits: &mut [f32]) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Relative to the largest, so that a tiny temperature cannot overflow.
        logits.iter_mut().for_each(|l| *l = (f64::from(*l - max) / self.temperature) as f32);
        if self.top_k > 0 && self.top_k < logits.len() {
            let mut order = logits.to_vec();
            let (_, kth, _) = order.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            let kth = *kth;
            logits.iter_mut().filter(|l| **l < kth).for_each(|l| *l = f32::NEG_INFINITY);
        }
        if self.top_p < 1.0 {
            keep_nucleus(logits, self.top_p);
        }
    }
}

/// Keeps the fewest likeliest tokens whose probabilities sum to `top_p` (Holtzman et al. 2019, arXiv:1904.09751).
/// Logits are relative to the largest.
fn keep_nucleus(logits: &mut [f32], top_p: f64) {
    let weights: Vec<f64> = logits.iter().map(|l| f64::from(*l).exp()).collect();
    let total: f64 = weights.iter().sum();
    // All tokens rarer than this together are less than 1 − top_p, so none of them is kept and none needs sorting.
    let rare = (1.0 - top_p) / weights.len() as f64 * total;
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] >= rare).collect();
    order.sort_unstable_by(|&i, &j| weights[j].total_cmp(&weights[i]).then(i.cmp(&j)));
    let mut before = 0.0;
    let mut kept = vec![false; logits.len()];
    for i in order {
        if before >= top_p * total {
            break;
        }
        before += weights[i];
        kept[i] = true;
    }
    logits.iter_mut().zip(kept).filter(|(_, kept)| !kept).for_each(|(l, _)| *l = f32::NEG_INFINITY);
}

/// The first of the largest logits.
fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best = None;
    for (i, &logit) in logits.iter().enumerate() {
        if best.is_none_or(|(_, largest)| logit > largest) {
            best = Some((i as u32, logit));
        }
    }
    best.map(|(id, _)| id)
}
