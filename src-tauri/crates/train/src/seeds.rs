//! Seeds that depend on where in a run something happens and on nothing else, so that a resumed run draws what an
//! uninterrupted one would.

/// The dropout seed of a micro-batch: `step` counts from 0 over the run, `micro_batch` from 0 within the step.
pub fn dropout(seed: u64, step: u64, micro_batch: u64) -> u64 {
    mix(mix(mix(seed) ^ step) ^ micro_batch)
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
    fn every_place_has_its_own_seed() {
        let mut seeds: Vec<u64> =
            (0..3).flat_map(|a| (0..50).flat_map(move |b| (0..8).map(move |c| dropout(a, b, c)))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 3 * 50 * 8, "run, step and micro-batch each change the masks");
    }
}
