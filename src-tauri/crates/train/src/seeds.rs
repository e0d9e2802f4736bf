//! Seeds that depend on where in a run something happens and on nothing else, so that a resumed run draws what an
//! uninterrupted one would.

/// The dropout seed of a micro-batch: `step` counts from 0 over the run, `micro_batch` from 0 within the step.
pub fn dropout(seed: u64, step: u64, micro_batch: u64) -> u64 {
    mix(mix(mix(seed) ^ step) ^ micro_batch)
}

/// What answers of a model in training are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To learn from them.
    Rollout,
    /// To measure the model, with the same choices each time.
    Evaluation,
}

/// The seed of an answer: `part` is the step of a rollout, counted from 0 over the run, or the part of an evaluation; `place` counts
/// from 0 within it.
pub fn answer(seed: u64, part: u64, purpose: Use, place: u64) -> u64 {
    let apart = match purpose {
        Use::Rollout => 0x726f_6c6c_6f75_7473,
        Use::Evaluation => 0x6576_616c_7561_7465,
    };
    mix(mix(mix(seed ^ apart) ^ part) ^ place)
}

/// In which order `count` answers of a rollout are learnt from the `epoch`th time.
pub fn order(seed: u64, step: u64, epoch: u64, count: usize) -> Vec<usize> {
    let of_epoch = mix(mix(mix(seed ^ 0x6f72_6465_7220_6f66) ^ step) ^ epoch);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&place| mix(of_epoch ^ place as u64));
    order
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_mixed_anew_in_every_epoch() {
        let orders: Vec<Vec<usize>> = (0..6).map(|i| order(1, i / 2, i % 2, 9)).collect();
        for (i, one) in orders.iter().enumerate() {
            let mut sorted = one.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..9).collect::<Vec<_>>(), "each once");
            assert!(!orders[..i].contains(one), "step and epoch each change the order");
        }
        assert_ne!(answer(1, 0, Use::Rollout, 0), answer(1, 0, Use::Evaluation, 0));
    }

    #[test]
    fn every_place_has_its_own_seed() {
        let mut seeds: Vec<u64> =
            (0..3).flat_map(|a| (0..50).flat_map(move |b| (0..8).map(move |c| dropout(a, b, c)))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 3 * 50 * 8, "run, step and micro-batch each change the masks");
    }
}
