//! Eight-bit codes that lie close together near zero (Dettmers et al. 2021, arXiv:2110.02861): they cover seven powers of ten, so that
//! small values keep a few digits.

use std::sync::LazyLock;

static SIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(true));
static UNSIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(false));

/// The least that a block is divided by.
const LEAST: f32 = 1e-38;

/// 256 codes in ascending order, the largest of which is 1.
#[derive(Debug)]
pub struct DynamicMap {
    codes: [f32; 256],
    /// Between each code and the next.
    middles: [f32; 255],
}

impl DynamicMap {
    /// Values that share a scale.
    pub const BLOCK: usize = 256;

    /// For values of both signs.
    pub fn signed() -> &'static Self {
        &SIGNED
    }

    /// For values that are never negative.
    pub fn unsigned() -> &'static Self {
        &UNSIGNED
    }

    /// For each power of ten `10⁻⁶ … 10⁰` the middles of equal parts of `0.1 … 1`, twice as many with each power; then 0
    /// and 1. A signed map has half as many parts and each value with both signs. All in f32, in bitsandbytes' order, so
    /// that every bit is the same.
    fn new(signed: bool) -> Self {
        let mut codes = vec![0.0, 1.0];
        for power in 0..7 {
            let parts = if signed { 1 << power } else { 2 << power };
            let factor = 10f64.powi(power - 6) as f32;
            for part in 0..parts {
                let code = factor * ((boundary(part, parts) + boundary(part + 1, parts)) / 2.0);
                codes.push(code);
                if signed {
                    codes.push(-code);
                }
            }
        }
        codes.sort_by(f32::total_cmp);
        let mut map = DynamicMap { codes: [0.0; 256], middles: [0.0; 255] };
        map.codes.copy_from_slice(&codes);
        for (middle, pair) in map.middles.iter_mut().zip(codes.windows(2)) {
            *middle = (pair[0] + pair[1]) / 2.0;
        }
        map
    }

    /// What an index stands for.
    #[inline(always)]
    pub fn code(&self, index: u8) -> f32 {
        self.codes[usize::from(index)]
    }

    /// All codes.
    pub fn codes(&self) -> &[f32; 256] {
        &self.codes
    }

    /// The values of one block.
    pub fn decode(&self, indices: &[u8], scale: f32, values: &mut [f32]) {
        for (value, &index) in values.iter_mut().zip(indices) {
            *value = self.code(index) * scale;
        }
    }

    /// Replaces the values of one block by the indices of the nearest codes, the lower of two as near, and returns the block's
    /// scale, its largest magnitude. Values that are no whole block of 256 are divided by it, those of a whole one are multiplied by
    /// the inverse.
    ///
    /// This is the rule of bitsandbytes' GPU kernels and of its portable code. Its library for CPUs looks codes up by the first 16
    /// bits of a value, which makes a code of 2·10⁻⁵ of zero.
    pub fn encode(&self, values: &[f32], indices: &mut [u8]) -> f32 {
        let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
        let whole = values.len() == Self::BLOCK;
        let least = largest.max(LEAST);
        let inverse = 1.0 / least;
        for (index, &value) in indices.iter_mut().zip(values) {
            let scaled = if whole { value * inverse } else { value / least };
            *index = self.nearest(scaled.clamp(-1.0, 1.0));
        }
        if whole { largest } else { least }
    }

    /// The same, but that no value changes its sign: of a small negative mean of gradients the direction of the update would be
    /// lost.
    pub fn encode_signed(&self, values: &[f32], indices: &mut [u8]) -> f32 {
        let scale = self.encode(values, indices);
        for (index, value) in indices.iter_mut().zip(values) {
            if self.code(*index).is_sign_negative() != value.is_sign_negative() {
                *index = if *value > 0.0 { index.saturating_add(1) } else { index.saturating_sub(1) };
            }
        }
        scale
    }

    fn nearest(&self, value: f32) -> u8 {
        self.middles.partition_point(|&middle| middle < value) as u8
    }
}

/// Where part `i` of `parts` equal parts of `0.1 … 1` begins, from whichever end is nearer, as torch's `linspace` does.
fn boundary(i: i32, parts: i32) -> f32 {
    let step = (1.0 - 0.1f32) / parts as f32;
    if i < (parts + 1) / 2 { step.mul_add(i as f32, 0.1) } else { (-step).mul_add((parts - i) as f32, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_nearest() {
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
            for (i, &code) in map.codes.iter().enumerate() {
                assert_eq!(usize::from(map.nearest(code)), i, "code {code} must survive being stored again");
            }
        }
    }

    #[test]
    fn values_stay_close_and_keep_their_sign() {
        let values: Vec<f32> = (0..256).map(|i| (i as f32 - 127.5).powi(3) * 1e-9).collect();
        let mut indices = [0; 256];
        let scale = DynamicMap::signed().encode_signed(&values, &mut indices);
        let mut again = [0.0; 256];
        DynamicMap::signed().decode(&indices, scale, &mut again);
        for (value, again) in values.iter().zip(again) {
            assert!((value - again).abs() <= 0.02 * scale, "{value} came back as {again}");
            assert!(*value >= 0.0 || again < 0.0, "{value} lost its sign: {again}");
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
            let mut indices = [9; 4];
            let scale = map.encode(&[0.0; 4], &mut indices);
            let mut again = [1.0; 4];
            map.decode(&indices, scale, &mut again);
            assert_eq!(again, [0.0; 4]);
        }
    }
}
