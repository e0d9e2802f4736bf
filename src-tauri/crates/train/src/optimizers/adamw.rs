//! AdamW with 32-bit state, torch's formula (Loshchilov and Hutter, arXiv:1711.05101).

use super::{Optimizer, Parameter, StateEntry, StateValues};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// One AdamW update of a run of elements: `m` and `v` are the moving means of the gradient and of its square.
///
/// ```text
/// w ← w · (1 − lr · weight_decay)
/// m ← m + (1 − β₁) · (g − m)        v ← β₂ · v + (1 − β₂) · g²
/// w ← w − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
/// ```
pub(super) struct AdamStep {
    decay: f32,
    step_size: f32,
    root_correction: f32,
}

impl AdamStep {
    pub(super) fn new(step: u64, learning_rate: f64, weight_decay: f64) -> Self {
        let t = step as f64;
        Self {
            decay: (1.0 - learning_rate * weight_decay) as f32,
            step_size: (learning_rate / (1.0 - BETA1.powf(t))) as f32,
            root_correction: (1.0 - BETA2.powf(t)).sqrt() as f32,
        }
    }

    pub(super) fn apply(&self, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        const NEW: f32 = (1.0 - BETA1) as f32;
        const OLD_SQUARE: f32 = BETA2 as f32;
        const NEW_SQUARE: f32 = (1.0 - BETA2) as f32;
        for (((w, &g), m), v) in weights.iter_mut().zip(gradient).zip(m).zip(v) {
            *w *= self.decay;
            *m += NEW * (g - *m);
            *v = *v * OLD_SQUARE + NEW_SQUARE * g * g;
            *w -= self.step_size * (*m / (v.sqrt() / self.root_correction + EPSILON as f32));
        }
    }
}

/// Both moving means of one tensor, in full.
pub(super) struct Moments {
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

impl Moments {
    pub(super) fn new(len: usize) -> Self {
        Self { exp_avg: vec![0.0; len], exp_avg_sq: vec![0.0; len] }
    }

    pub(super) fn update(&mut self, step: &AdamStep, weights: &mut [f32], gradient: &[f32]) {
        step.apply(weights, gradient, &mut self.exp_avg, &mut self.exp_avg_sq);
    }

    pub(super) fn state(&mut self, index: usize) -> [StateEntry<'_>; 2] {
        [
            StateEntry { index, name: "exp_avg", values: StateValues::F32(&mut self.exp_avg) },
            StateEntry { index, name: "exp_avg_sq", values: StateValues::F32(&mut self.exp_avg_sq) },
        ]
    }
}

/// AdamW with betas 0.9 and 0.999, ε 1e-8 and decoupled weight decay.
pub struct AdamW {
    weight_decay: Vec<f64>,
    moments: Vec<Moments>,
}

impl AdamW {
    /// Both means start at zero.
    pub fn new(parameters: &[Parameter]) -> Self {
        Self {
            weight_decay: parameters.iter().map(|p| p.weight_decay).collect(),
            moments: parameters.iter().map(|p| Moments::new(p.len)).collect(),
        }
    }
}

impl Optimizer for AdamW {
    fn update(&mut self, index: usize, weights: &mut [f32], gradient: &[f32], step: u64, learning_rate: f64) {
        let step = AdamStep::new(step, learning_rate, self.weight_decay[index]);
        self.moments[index].update(&step, weights, gradient);
    }

    fn state(&mut self) -> Vec<StateEntry<'_>> {
        self.moments.iter_mut().enumerate().flat_map(|(i, m)| m.state(i)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::tests::check;

    #[test]
    fn equals_torch() {
        check(|p| Box::new(AdamW::new(p)), 0.0, [0.48000196, -0.24415766, 0.9793351, -0.021637408]);
        check(|p| Box::new(AdamW::new(p)), 0.1, [0.47852916, -0.24342339, 0.9763666, -0.02160964]);
    }
}
