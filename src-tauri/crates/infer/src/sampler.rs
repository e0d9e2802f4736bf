//! How the next token is chosen, with the formulas and in the order of transformers' logits processors: repetition
//! penalty, temperature, top-k, top-p, then one draw.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::GenerateParams;

use crate::InferError;

/// Chooses tokens; the same seed and the same logits give the same tokens.
pub struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    repetition_penalty: f32,
    random: ChaCha8Rng,
}

/// A token that may be chosen, and its share of the probability.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    share: f32,
}

impl Sampler {
    /// A sampler with these settings.
    pub fn new(params: &GenerateParams) -> Self {
        Sampler {
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            repetition_penalty: params.repetition_penalty,
            random: ChaCha8Rng::seed_from_u64(params.seed),
        }
    }

    /// The next token after `seen`, by f32 logits `[vocab]`. Those on a card stay there, and only the token is fetched.
    ///
    /// # Errors
    /// The logits are not finite, or cannot be fetched.
    pub fn choose_from(&mut self, logits: &Tensor, seen: &[u32]) -> Result<u32, InferError> {
        let chosen = Self::choose_each(&logits.unsqueeze(0)?, &mut [(self, seen)])?;
        chosen.first().copied().ok_or(InferError::NotFinite)
    }

    /// The same of each row of `[rows, vocab]`, each with a sampler of its own, which differ in nothing but their seeds, and what it has
    /// seen.
    ///
    /// # Errors
    /// As there, or there are more or fewer samplers than rows.
    pub fn choose_each(logits: &Tensor, rows: &mut [(&mut Self, &[u32])]) -> Result<Vec<u32>, InferError> {
        if logits.dims2()?.0 != rows.len() {
            let problem = format!("{} tokens cannot be chosen by {:?}", rows.len(), logits.shape());
            return Err(candle_core::Error::Msg(problem).into());
        }
        #[cfg(feature = "cuda")]
        if logits.device().is_cuda() {
            return Self::choose_on_card(logits, rows);
        }
        let logits: Vec<Vec<f32>> = logits.to_vec2()?;
        rows.iter_mut().zip(logits).map(|((sampler, seen), logits)| sampler.choose(logits, seen)).collect()
    }

    #[cfg(feature = "cuda")]
    fn choose_on_card(logits: &Tensor, rows: &mut [(&mut Self, &[u32])]) -> Result<Vec<u32>, InferError> {
        let Some((first, _)) = rows.first() else { return Ok(Vec::new()) };
        let how = kernels::Choosing {
            temperature: first.temperature,
            top_k: first.top_k,
            top_p: first.top_p,
            repetition_penalty: first.repetition_penalty,
        };
        let rows: Vec<kernels::Chosen<'_>> = rows
            .iter_mut()
            .map(|(sampler, seen)| kernels::Chosen { seen, random: sampler.random_bits() })
            .collect();
        let chosen = kernels::choose_on_card(logits, how, &rows)?;
        chosen.into_iter().collect::<Option<_>>().ok_or(InferError::NotFinite)
    }

    /// As many random bits as a fraction has, for one choice; none are taken where nothing is left to chance.
    fn random_bits(&mut self) -> u64 {
        if self.temperature == 0.0 { 0 } else { self.random.next_u64() >> 11 }
    }

    /// The next token after `seen`, by the logits of all tokens.
    pub fn choose(&mut self, mut logits: Vec<f32>, seen: &[u32]) -> Result<u32, InferError> {
        if logits.iter().fold(false, |damaged, l| damaged | !l.is_finite()) {
            return Err(InferError::NotFinite);
        }
        self.penalize(&mut logits, seen);
        if self.temperature == 0.0 {
            return likeliest(&logits).ok_or(InferError::NotFinite);
        }
        let candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|c| f64::from(c.share)).sum();
        let mut left = self.random_bits() as f64 / (1u64 << 53) as f64 * total;
        let drawn = candidates.iter().find(|candidate| {
            left -= f64::from(candidate.share);
            left < 0.0
        });
        // Rounding may leave a little after the last one.
        drawn.or(candidates.last()).map(|candidate| candidate.id).ok_or(InferError::NotFinite)
    }

    /// Makes every token of `seen` less likely (Keskar et al. 2019, arXiv:1909.05858).
    pub(crate) fn penalize(&self, logits: &mut [f32], seen: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut penalized = vec![false; logits.len()];
        for &id in seen {
            let Some(before) = penalized.get_mut(id as usize) else { continue };
            if !std::mem::replace(before, true) {
                let logit = &mut logits[id as usize];
                *logit = if *logit < 0.0 {
                    *logit * self.repetition_penalty
                } else {
                    *logit / self.repetition_penalty
                };
            }
        }
    }

    /// What top-k and top-p leave at this temperature.
    fn candidates(&self, mut logits: Vec<f32>) -> Vec<Candidate> {
        let mut ids: Option<Vec<u32>> = None;
        if self.top_k > 0 && self.top_k < logits.len() {
            let mut order = logits.clone();
            let (_, kth, _) = order.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            let kept: Vec<u32> = (0u32..).zip(&logits).filter(|(_, l)| *l >= kth).map(|(id, _)| id).collect();
            logits = kept.iter().map(|&id| logits[id as usize]).collect();
            ids = Some(kept);
        }
        // Not infinite, by which the largest, which is measured from itself, must not be multiplied.
        let scale = (1.0 / self.temperature).min(f64::from(f32::MAX)) as f32;
        kernels::probabilities(&mut logits, scale);
        let candidate = |(id, &share): (u32, &f32)| Candidate { id, share };
        let mut candidates: Vec<Candidate> = match ids {
            Some(ids) => ids.into_iter().zip(&logits).map(candidate).collect(),
            None => (0u32..).zip(&logits).map(candidate).collect(),
        };
        if self.top_p < 1.0 {
            keep_nucleus(&mut candidates, self.top_p);
        }
        candidates
    }
}

/// Keeps the fewest likeliest tokens whose probabilities sum to `top_p` (Holtzman et al. 2019, arXiv:1904.09751). They are
/// found by halves, so nothing is sorted.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    let sum = |candidates: &[Candidate]| candidates.iter().map(|c| f64::from(c.share)).sum::<f64>();
    let total = sum(candidates);
    let wanted = top_p * total;
    // All tokens rarer than this together are less than 1 − top_p, so none of them is kept.
    let rare = (1.0 - top_p) / candidates.len() as f64 * total;
    candidates.retain(|c| f64::from(c.share) >= rare);
    let likelier = |a: &Candidate, b: &Candidate| b.share.total_cmp(&a.share).then(a.id.cmp(&b.id));
    // Those before `from` are too few, those before `to` are enough.
    let (mut from, mut to, mut before) = (0, candidates.len(), 0.0);
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        candidates[from..to].select_nth_unstable_by(middle - from, likelier);
        let next = before + sum(&candidates[from..middle]);
        if next < wanted {
            (from, before) = (middle, next);
        } else {
            to = middle;
        }
    }
    candidates.truncate(to);
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
        let mut ids: Vec<usize> =
            Sampler::new(params).candidates(logits.to_vec()).iter().map(|c| c.id as usize).collect();
        ids.sort_unstable();
        ids
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
    fn a_nucleus_is_the_likeliest_tokens_however_many() {
        // Probabilities fall slowly, so that the nucleus is wide, and the likeliest are not the first.
        let logits: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 5000) as f32 / 2000.0).collect();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&i, &j| logits[j].total_cmp(&logits[i]));
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for top_p in [0.001, 0.1, 0.5, 0.97, 0.9999] {
            let kept = kept(&params(1.0, 0, top_p, 0), &logits);
            let sum = |count: usize| {
                order[..count].iter().map(|&i| f64::from(logits[i]).exp()).sum::<f64>() / total
            };
            assert!(sum(kept.len()) > top_p - 1e-5, "{} tokens must reach {top_p}", kept.len());
            assert!(sum(kept.len() - 1) < top_p + 1e-5, "{} tokens are more than {top_p} needs", kept.len());
            let mut want = order[..kept.len()].to_vec();
            want.sort_unstable();
            assert_eq!(kept, want, "the likeliest {} are kept", want.len());
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        let mut sampler = Sampler::new(&params(1.0, 0, 1.0, 5));
        let mut counts = [0f32; 4];
        (0..20_000).for_each(|_| counts[sampler.choose(logits.to_vec(), &[]).unwrap() as usize] += 1.0);
        for (count, share) in counts.iter().zip([0.1, 0.2, 0.3, 0.4]) {
            assert!((count / 20_000.0 - share).abs() < 0.02, "a share of {share} was drawn {count} times");
        }
        let mut sampler = Sampler::new(&params(f64::MIN_POSITIVE, 0, 1.0, 5));
        assert_eq!(sampler.choose(logits.to_vec(), &[]).unwrap(), 3, "the coldest draw takes the likeliest");
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
