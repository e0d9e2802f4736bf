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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(temperature: f64, top_k: usize, top_p: f64, seed: u64) -> GenerateParams {
        GenerateParams { temperature, top_k, top_p, seed, ..GenerateParams::default() }
    }

    /// Which tokens are left after the filters.
    fn kept(params: &GenerateParams, logits: &[f32]) -> Vec<usize> {
        let mut logits = logits.to_vec();
        Sampler::new(params).filter(&mut logits);
        (0..logits.len()).filter(|&i| logits[i] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn filters_keep_what_transformers_keeps() {
        // Probabilities 0.1, 0.2, 0.3, 0.4.
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        let cases: [(f64, usize, f64, &[usize]); 7] = [
            (1.0, 0, 1.0, &[0, 1, 2, 3]),
            (1.0, 2, 1.0, &[2, 3]),
            (1.0, 9, 1.0, &[0, 1, 2, 3]),
            (1.0, 0, 0.39, &[3]),
            (1.0, 0, 0.5, &[2, 3]),
            (1.0, 0, 0.75, &[1, 2, 3]),
            // Top-p counts what top-k has left: 0.4 / 0.7 is more than a half.
            (1.0, 2, 0.5, &[3]),
        ];
        for (temperature, top_k, top_p, want) in cases {
            let params = params(temperature, top_k, top_p, 0);
            assert_eq!(kept(&params, &logits), want, "top_k {top_k}, top_p {top_p}");
        }
        assert_eq!(
            kept(&params(0.1, 0, 0.9, 0), &logits),
            [3],
            "a low temperature makes the likeliest likelier"
        );
    }

    #[test]
    fn the_penalty_moves_seen_tokens_away_from_certainty() {
        let params = GenerateParams { repetition_penalty: 2.0, ..GenerateParams::greedy(1) };
        let mut logits = [3.0, -3.0, 1.0, 0.5];
        Sampler::new(&params).penalize(&mut logits, &[0, 1, 0, 99]);
        assert_eq!(
            logits,
            [1.5, -6.0, 1.0, 0.5],
            "each seen token once: positive divided, negative multiplied"
        );
    }

    #[test]
    fn damaged_logits_are_an_error() {
        let mut sampler = Sampler::new(&GenerateParams::greedy(1));
        assert!(
            matches!(sampler.choose(vec![0.0, f32::NAN], &[]), Err(InferError::NotFinite)),
            "NaN is no choice"
        );
        assert!(matches!(sampler.choose(vec![], &[]), Err(InferError::NotFinite)), "nothing to choose from");
    }

    proptest! {
        #[test]
        fn a_choice_is_always_one_of_the_kept_and_repeats_with_its_seed(
            logits in prop::collection::vec(-20f32..20.0, 1..60),
            temperature in 0.01f64..5.0,
            top_k in 0usize..70,
            top_p in 0.01f64..=1.0,
            seed: u64,
        ) {
            let params = params(temperature, top_k, top_p, seed);
            let kept = kept(&params, &logits);
            let best = likeliest(&logits).unwrap() as usize;
            prop_assert!(kept.contains(&best), "the likeliest token is always kept");
            let draw = || {
                let mut sampler = Sampler::new(&params);
                (0..5).map(|_| sampler.choose(logits.clone(), &[]).unwrap()).collect::<Vec<_>>()
            };
            let first = draw();
            prop_assert!(first.iter().all(|&id| kept.contains(&(id as usize))), "{first:?} must be among {kept:?}");
            prop_assert_eq!(first, draw(), "the same seed must choose the same tokens");
        }

        #[test]
        fn temperature_zero_takes_the_likeliest(logits in prop::collection::vec(-20f32..20.0, 1..60), seed: u64) {
            let chosen = Sampler::new(&params(0.0, 0, 1.0, seed)).choose(logits.clone(), &[]).unwrap();
            prop_assert!(logits.iter().all(|&l| l <= logits[chosen as usize]));
        }
    }
}
