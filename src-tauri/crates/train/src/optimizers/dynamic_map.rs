//! Block-wise 8-bit storage of an optimizer's state with a dynamic code book (Dettmers et al., arXiv:2110.02861).
//!
//! Each block of values is divided by its largest magnitude and each value replaced by the nearest of 256 codes. The
//! codes lie close together near zero and cover seven powers of ten, so that small values keep a few digits.

use std::sync::LazyLock;

/// Values that share one scale, as in bitsandbytes.
pub(super) const BLOCK: usize = 256;

/// For values of both signs.
pub(super) static SIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(true));
/// For values that are never negative.
pub(super) static UNSIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(false));

/// 256 codes in ascending order, the largest of which is 1.
pub(super) struct DynamicMap {
    codes: [f32; 256],
    signed: bool,
}

impl DynamicMap {
    /// For each power of ten `10⁻⁶ … 10⁰` the middles of equal parts of `0.1 … 1`, twice as many with each power; then 0
    /// and 1. A signed map has half as many parts and each value with both signs.
    fn new(signed: bool) -> Self {
        let mut codes = vec![0.0, 1.0];
        for power in 0..7 {
            let parts = if signed { 1 << power } else { 2 << power };
            let width = 0.9 / f64::from(parts);
            for part in 0..parts {
                let middle = 0.1 + width * (f64::from(part) + 0.5);
                let code = (middle * 10f64.powi(power - 6)) as f32;
                codes.push(code);
                if signed {
                    codes.push(-code);
                }
            }
        }
        codes.sort_by(f32::total_cmp);
        let mut all = [0.0; 256];
        all.copy_from_slice(&codes);
        Self { codes: all, signed }
    }

    /// The values of one block.
    pub(super) fn decode(&self, bytes: &[u8], scale: f32, values: &mut [f32]) {
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value = self.codes[usize::from(byte)] * scale;
        }
    }

    /// Replaces the values of one block by the nearest codes and returns the block's scale.
    pub(super) fn encode(&self, values: &[f32], bytes: &mut [u8]) -> f32 {
        let scale = values.iter().fold(0f32, |most, v| most.max(v.abs()));
        let inverse = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
        for (byte, &value) in bytes.iter_mut().zip(values) {
            *byte = self.nearest((f64::from(value) * inverse) as f32);
        }
        scale
    }

    fn nearest(&self, value: f32) -> u8 {
        let above = self.codes.partition_point(|&code| code < value).min(255);
        let below = above.saturating_sub(1);
        let mut nearest = if value - self.codes[below] < self.codes[above] - value { below } else { above };
        // A small negative mean must not turn into zero: the direction of the update would be lost.
        if self.signed && value < 0.0 && self.codes[nearest] >= 0.0 {
            nearest -= 1;
        }
        nearest as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_bitsandbytes() {
        let signed = [
            (0, -0.99296874),
            (63, -0.107031256),
            (64, -0.09859375),
            (126, -5.5000004e-07),
            (127, 0.0),
            (128, 5.5000004e-07),
            (129, 3.2500002e-06),
            (200, 0.23359375),
            (254, 0.99296874),
            (255, 1.0),
        ];
        let unsigned = [
            (0, 0.0),
            (1, 3.2500003e-07),
            (63, 0.010703126),
            (64, 0.012109376),
            (126, 0.099296875),
            (127, 0.103515625),
            (128, 0.11054687),
            (200, 0.61679685),
            (254, 0.9964844),
            (255, 1.0),
        ];
        for (map, codes) in [(&*SIGNED, signed), (&*UNSIGNED, unsigned)] {
            for (i, want) in codes {
                let got = map.codes[i];
                assert!(
                    (got - want).abs() <= 1e-6 * want.abs(),
                    "code {i}: {got}, create_dynamic_map gives {want}"
                );
            }
        }
    }

    #[test]
    fn every_code_is_its_own_nearest() {
        for map in [&*SIGNED, &*UNSIGNED] {
            for (i, &code) in map.codes.iter().enumerate() {
                assert_eq!(usize::from(map.nearest(code)), i, "code {code} must survive being stored again");
            }
        }
    }

    #[test]
    fn values_stay_close_and_keep_their_sign() {
        let values: Vec<f32> = (0..BLOCK).map(|i| (i as f32 - 127.5).powi(3) * 1e-9).collect();
        let mut bytes = [0; BLOCK];
        let scale = SIGNED.encode(&values, &mut bytes);
        let mut again = [0.0; BLOCK];
        SIGNED.decode(&bytes, scale, &mut again);
        for (value, again) in values.iter().zip(again) {
            assert!((value - again).abs() <= 0.02 * scale, "{value} came back as {again}");
            assert!(*value >= 0.0 || again < 0.0, "{value} lost its sign: {again}");
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for map in [&*SIGNED, &*UNSIGNED] {
            let mut bytes = [9; 4];
            let scale = map.encode(&[0.0; 4], &mut bytes);
            let mut again = [1.0; 4];
            map.decode(&bytes, scale, &mut again);
            assert_eq!(again, [0.0; 4]);
        }
    }
}
