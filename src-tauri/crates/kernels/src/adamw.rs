//! AdamW's update of the weights where they are (Loshchilov and Hutter, arXiv:1711.05101), torch's formula.

use crate::level::vectorised;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f32 = 1e-8;

/// One AdamW update with betas 0.9 and 0.999, ε 1e-8 and decoupled weight decay, of any number of elements:
///
/// ```text
/// w ← w · (1 − lr · weight_decay)
/// m ← m + (1 − β₁) · (g − m)        v ← β₂ · v + (1 − β₂) · g²
/// w ← w − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
/// ```
///
/// The same bits at every level: no two operations are contracted into one.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    decay: f32,
    step_size: f32,
    root_correction: f32,
}

impl AdamWStep {
    /// The update of step `t`, which counts from 1.
    pub fn new(t: u64, learning_rate: f64, weight_decay: f64) -> Self {
        let t = t as f64;
        Self {
            decay: (1.0 - learning_rate * weight_decay) as f32,
            step_size: (learning_rate / (1.0 - BETA1.powf(t))) as f32,
            root_correction: (1.0 - BETA2.powf(t)).sqrt() as f32,
        }
    }

    /// What weights are multiplied by, the size of a step, and the correction of the root.
    #[cfg(feature = "cuda")]
    pub(crate) fn factors(self) -> (f32, f32, f32) {
        (self.decay, self.step_size, self.root_correction)
    }

    /// Updates `weights`, and the moving means of the gradient, `m`, and of its square, `v`, all of the same length.
    /// False if a new weight is not finite.
    pub fn apply(self, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) -> bool {
        update(self, weights, gradient, m, v)
    }
}

vectorised! {
    fn update(step: AdamWStep, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) -> bool {
        const NEW: f32 = (1.0 - BETA1) as f32;
        const OLD_SQUARE: f32 = BETA2 as f32;
        const NEW_SQUARE: f32 = (1.0 - BETA2) as f32;
        const EXPONENT: u32 = 0x7f80_0000;
        // Counted rather than asked, so that no branch is in the way of the vectors.
        let mut unusable = 0u32;
        for (((w, &g), m), v) in weights.iter_mut().zip(gradient).zip(m).zip(v) {
            *m += NEW * (g - *m);
            *v = *v * OLD_SQUARE + NEW_SQUARE * g * g;
            *w = *w * step.decay - step.step_size * (*m / (v.sqrt() / step.root_correction + EPSILON));
            unusable |= u32::from(w.to_bits() & EXPONENT == EXPONENT);
        }
        unusable == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula element by element in f64.
    fn reference(t: u64, rate: f64, decay: f64, w: &mut f64, g: f64, m: &mut f64, v: &mut f64) {
        *w *= 1.0 - rate * decay;
        *m += (1.0 - BETA1) * (g - *m);
        *v = BETA2 * *v + (1.0 - BETA2) * g * g;
        let corrected = (v.sqrt() / (1.0 - BETA2.powf(t as f64)).sqrt()) + f64::from(EPSILON);
        *w -= rate / (1.0 - BETA1.powf(t as f64)) * *m / corrected;
    }

    #[test]
    fn equals_the_formula_at_every_length() {
        for len in [0, 1, 15, 16, 17, 67] {
            let mut weights: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
            let mut want: Vec<[f64; 3]> = weights.iter().map(|&w| [f64::from(w), 0.0, 0.0]).collect();
            for t in 1..=5 {
                let gradient: Vec<f32> = (0..len).map(|i| (i as f32 * 0.3 + t as f32).cos()).collect();
                assert!(AdamWStep::new(t, 1e-2, 0.1).apply(&mut weights, &gradient, &mut m, &mut v));
                for ([w, m, v], &g) in want.iter_mut().zip(&gradient) {
                    reference(t, 1e-2, 0.1, w, f64::from(g), m, v);
                }
            }
            for (i, (got, want)) in weights.iter().zip(&want).enumerate() {
                assert!((f64::from(*got) - want[0]).abs() < 1e-6, "{i} of {len}: {got}, not {}", want[0]);
            }
        }
    }

    #[test]
    fn a_weight_that_is_not_finite_is_told_wherever_it_is() {
        for len in [1, 16, 33] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..len {
                    let mut weights = vec![1.0; len];
                    weights[at] = bad;
                    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
                    let step = AdamWStep::new(1, 1e-3, 0.0);
                    assert!(
                        !step.apply(&mut weights, &vec![0.1; len], &mut m, &mut v),
                        "{bad} at {at} of {len}"
                    );
                }
            }
        }
    }
}
