//! AdamW whose state takes one byte a value, as in bitsandbytes: a quarter of the memory of [`AdamW`].
//!
//! Each block is decoded, updated by the same formula in 32 bits, and encoded again; the weights never see rounded new
//! means, only rounded old ones. Tensors below [`SMALLEST`] elements keep 32-bit state.

use kernels::{AdamWStep, DynamicMap};

use super::{Optimizer, Parameter, StateEntry, StateValues, adamw::AdamW};

/// Values that share a scale.
const BLOCK: usize = DynamicMap::BLOCK;
/// Smaller tensors would save nothing and lose precision.
const SMALLEST: usize = 4096;

/// AdamW with block-wise 8-bit state where the tensor is large enough.
pub fn build(parameter: Parameter) -> Box<dyn Optimizer> {
    if parameter.len < SMALLEST {
        Box::new(AdamW::new(parameter))
    } else {
        Box::new(AdamW8bit::new(parameter))
    }
}

struct AdamW8bit {
    weight_decay: f64,
    exp_avg: Vec<u8>,
    exp_avg_scale: Vec<f32>,
    exp_avg_sq: Vec<u8>,
    exp_avg_sq_scale: Vec<f32>,
    /// Both means on a card, as long as they are newer there.
    #[cfg(feature = "cuda")]
    on_card: Option<kernels::CodedMoments>,
}

impl AdamW8bit {
    /// Both means start at zero.
    fn new(Parameter { len, weight_decay }: Parameter) -> Self {
        // A scale of zero makes every code zero.
        let scales = vec![0.0; len.div_ceil(BLOCK)];
        Self {
            weight_decay,
            exp_avg: vec![0; len],
            exp_avg_scale: scales.clone(),
            exp_avg_sq: vec![0; len],
            exp_avg_sq_scale: scales,
            #[cfg(feature = "cuda")]
            on_card: None,
        }
    }
}

impl Optimizer for AdamW8bit {
    fn update(&mut self, weights: &mut [f32], gradient: &[f32], step: u64, learning_rate: f64) -> bool {
        let step = AdamWStep::new(step, learning_rate, self.weight_decay);
        let (means_of, squares_of) = (DynamicMap::signed(), DynamicMap::unsigned());
        let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
        let means = self.exp_avg.chunks_mut(BLOCK).zip(&mut self.exp_avg_scale);
        let squares = self.exp_avg_sq.chunks_mut(BLOCK).zip(&mut self.exp_avg_sq_scale);
        let blocks = weights.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK)).zip(means.zip(squares));
        let mut finite = true;
        for ((weights, gradient), ((mean, mean_scale), (square, square_scale))) in blocks {
            let (m, v) = (&mut m[..weights.len()], &mut v[..weights.len()]);
            means_of.decode(mean, *mean_scale, m);
            squares_of.decode(square, *square_scale, v);
            finite &= step.apply(weights, gradient, m, v);
            *mean_scale = means_of.encode_signed(m, mean);
            *square_scale = squares_of.encode(v, square);
        }
        finite
    }

    #[cfg(feature = "cuda")]
    fn update_on_card(
        &mut self,
        weights: &candle_core::Var,
        (gradients, index): (&kernels::CardGradients, usize),
        step: u64,
        learning_rate: f64,
    ) -> candle_core::Result<bool> {
        let moments = match self.on_card.take() {
            Some(moments) => moments,
            None => {
                let codes = [&self.exp_avg[..], &self.exp_avg_sq];
                let scales = [&self.exp_avg_scale[..], &self.exp_avg_sq_scale];
                kernels::CodedMoments::new(weights.device(), (codes, scales))?
            }
        };
        let step = AdamWStep::new(step, learning_rate, self.weight_decay);
        kernels::adamw_8bit_on_card(step, weights, gradients, index, self.on_card.insert(moments))?;
        // Whether all weights are finite is asked once a step, of the gradients.
        Ok(true)
    }

    #[cfg(feature = "cuda")]
    fn leave_card(&mut self) -> candle_core::Result<()> {
        let Some(moments) = self.on_card.take() else { return Ok(()) };
        let codes = [&mut self.exp_avg[..], &mut self.exp_avg_sq];
        let scales = [&mut self.exp_avg_scale[..], &mut self.exp_avg_sq_scale];
        moments.read((codes, scales))
    }

    fn state(&mut self) -> Vec<StateEntry<'_>> {
        use StateValues::{F32, U8};
        vec![
            StateEntry { name: "exp_avg", values: U8(&mut self.exp_avg) },
            StateEntry { name: "exp_avg_scale", values: F32(&mut self.exp_avg_scale) },
            StateEntry { name: "exp_avg_sq", values: U8(&mut self.exp_avg_sq) },
            StateEntry { name: "exp_avg_sq_scale", values: F32(&mut self.exp_avg_sq_scale) },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::tests::check;

    #[test]
    fn small_tensors_equal_torch() {
        check(build, 0.1, [0.47852916, -0.24342339, 0.9763666, -0.02160964]);
    }

    #[test]
    fn large_tensors_take_a_byte_a_value_and_follow_the_32_bit_updates() {
        let parameter = Parameter { len: SMALLEST + 100, weight_decay: 0.01 };
        let (mut packed, mut full) = (build(parameter), AdamW::new(parameter));
        let (mut got, mut want) = (vec![0.1f32; parameter.len], vec![0.1f32; parameter.len]);
        for step in 1..=20 {
            let gradient: Vec<f32> = (0..got.len())
                .map(|i| (i as f32 * 0.7 + step as f32 * 0.3).sin() * (1.0 + i as f32 * 0.01))
                .collect();
            packed.update(&mut got, &gradient, step, 1e-3);
            full.update(&mut want, &gradient, step, 1e-3);
        }
        let moved: f32 = want.iter().map(|w| (w - 0.1).abs()).sum();
        let apart: f32 = want.iter().zip(&got).map(|(w, g)| (w - g).abs()).sum();
        assert!(apart > 0.0, "the state must really be stored in 8 bits");
        assert!(apart < 0.03 * moved, "8-bit state strays {apart} over a way of {moved}");
        let bytes: usize = packed
            .state()
            .iter()
            .map(|entry| match &entry.values {
                StateValues::F32(values) => values.len() * 4,
                StateValues::U8(values) => values.len(),
            })
            .sum();
        assert!(bytes < parameter.len * 21 / 10, "two bytes a weight and the scales, not {bytes}");
    }
}
