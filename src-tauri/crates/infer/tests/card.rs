//! Tokens chosen on a card against the sampler's own choice on the processor. Without a card they are skipped, and say so.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what is skipped is told")]

use candle_core::{Device, Tensor};
use infer::{InferError, Sampler};
use types::GenerateParams;

fn card(test: &str) -> Option<Device> {
    match kernels::card(0) {
        Ok(card) => Some(card),
        Err(error) => {
            println!("SKIPPED {test}: there is no card: {error}");
            None
        }
    }
}

/// Numbers that look random, from −1 to 1.
fn noise(count: usize, mut state: u64) -> Vec<f32> {
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(step).take(count).collect()
}

/// How far sums of shares may be apart, of all.
const ROUNDING: f64 = 4e-6;

/// What is wrong with the choice of `got` by its definition, all in f64, where what is drawn from is in the order of the vocabulary. None
/// also where rounding decides how many tokens are kept, which `undecided` counts.
fn wrong(
    params: &GenerateParams,
    logits: &[f32],
    seen: &[u32],
    (unit, got): (f64, u32),
    undecided: &mut usize,
) -> Option<String> {
    let mut logits = logits.to_vec();
    let (mut seen, penalty) = (seen.to_vec(), params.repetition_penalty);
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap().then(i.cmp(&j)));
    if params.temperature == 0.0 {
        return (got as usize != order[0]).then(|| format!("{got}, not the likeliest {}", order[0]));
    }
    if params.top_k > 0 && params.top_k < order.len() {
        let kth = logits[order[params.top_k - 1]];
        order.retain(|&id| logits[id] >= kth);
    }
    let most = f64::from(logits[order[0]]);
    let share = |id: usize| ((f64::from(logits[id]) - most) / params.temperature).exp();
    let total: f64 = order.iter().map(|&id| share(id)).sum();
    if params.top_p < 1.0 {
        let (mut sum, mut kept) = (0.0, 0);
        for &id in &order {
            let before = sum;
            sum += share(id);
            kept += 1;
            let wanted = params.top_p * total;
            if sum >= wanted {
                if (sum - wanted).min(wanted - before) < ROUNDING * total {
                    *undecided += 1;
                    return None;
                }
                break;
            }
        }
        order.truncate(kept);
    }
    order.sort_unstable();
    let Ok(place) = order.binary_search(&(got as usize)) else { return Some(format!("{got} is not kept")) };
    let total: f64 = order.iter().map(|&id| share(id)).sum();
    let before: f64 = order[..place].iter().map(|&id| share(id)).sum();
    let (from, to) = (before / total, (before + share(got as usize)) / total);
    let fits = from - ROUNDING <= unit && unit <= to + ROUNDING;
    (!fits).then(|| format!("{got} has {from} to {to} of the shares, and {unit} was drawn"))
}

/// Random numbers as the sampler draws them.
fn units(seed: u64) -> impl Iterator<Item = f64> {
    use rand::{Rng, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    std::iter::repeat_with(move || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
}

#[test]
fn tokens_are_chosen_on_a_card_by_the_sampler_s_rules() {
    let Some(card) = card("tokens_are_chosen_on_a_card_by_the_sampler_s_rules") else { return };
    let settings = [
        (0.0, 0, 1.0, 1.0),
        (0.0, 0, 1.0, 1.3),
        (1.0, 0, 1.0, 1.0),
        (0.7, 0, 0.9, 1.0),
        (0.7, 40, 0.9, 1.2),
        (2.0, 5, 1.0, 1.0),
        (3.0, 0, 0.95, 1.0),
        (1.0, 1, 0.5, 0.8),
        (f64::MIN_POSITIVE, 0, 1.0, 1.0),
    ];
    let (mut compared, mut undecided) = (0, 0);
    for vocab in [1usize, 31, 1000, 4097, 32_000, 128_256, 262_144] {
        for (n, (temperature, top_k, top_p, repetition_penalty)) in settings.into_iter().enumerate() {
            for ties in [false, true] {
                let seeds = [3u64, 7 + n as u64, 1 << 40];
                let rows: Vec<Vec<f32>> = seeds
                    .iter()
                    .map(|&seed| {
                        let value = |x: f32| if ties { (x * 4.0).round() } else { x.powi(3) * 12.0 };
                        noise(vocab, seed + vocab as u64).into_iter().map(value).collect()
                    })
                    .collect();
                let seen: Vec<Vec<u32>> =
                    (0..3).map(|row| (0..row * 30).map(|i| i * 17 % 997).collect()).collect();
                let logits = Tensor::from_vec(rows.concat(), (3, vocab), &card).unwrap();
                let params = |seed| GenerateParams {
                    temperature,
                    top_k,
                    top_p,
                    repetition_penalty,
                    seed,
                    ..GenerateParams::default()
                };
                let mut samplers: Vec<Sampler> =
                    seeds.iter().map(|&seed| Sampler::new(&params(seed))).collect();
                let mut drawn: Vec<_> = seeds.iter().map(|&seed| units(seed)).collect();
                for _ in 0..3 {
                    let mut each: Vec<(&mut Sampler, &[u32])> =
                        samplers.iter_mut().zip(seen.iter().map(Vec::as_slice)).collect();
                    let got = Sampler::choose_each(&logits, &mut each).unwrap();
                    for row in 0..3 {
                        let unit = drawn[row].next().unwrap();
                        let choice = (unit, got[row]);
                        let wrong =
                            wrong(&params(seeds[row]), &rows[row], &seen[row], choice, &mut undecided);
                        compared += 1;
                        assert_eq!(wrong, None, "vocabulary {vocab}, {:?}", params(seeds[row]));
                    }
                }
            }
        }
    }
    assert!(undecided * 2 < compared, "{undecided} of {compared} choices were too close to tell");
}

#[test]
fn greedy_choices_are_the_same_everywhere_and_damage_is_told() {
    let Some(card) = card("greedy_choices_are_the_same_everywhere_and_damage_is_told") else { return };
    let greedy = GenerateParams { repetition_penalty: 1.1, ..GenerateParams::greedy(1) };
    let mut logits = noise(50_000, 9);
    let seen: Vec<u32> = (0..2000).collect();
    let want = Sampler::new(&greedy).choose(logits.clone(), &seen).unwrap();
    let on_card = |logits: &[f32]| Tensor::new(logits, &card).unwrap();
    assert_eq!(Sampler::new(&greedy).choose_from(&on_card(&logits), &seen).unwrap(), want);
    for damage in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 999, 49_999] {
            let before = std::mem::replace(&mut logits[at], damage);
            for params in [&greedy, &GenerateParams::default()] {
                let got = Sampler::new(params).choose_from(&on_card(&logits), &seen);
                assert!(matches!(got, Err(InferError::NotFinite)), "{damage} at {at} is no choice");
            }
            logits[at] = before;
        }
    }
}
