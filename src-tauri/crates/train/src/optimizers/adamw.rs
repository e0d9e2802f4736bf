//! AdamW with 32-bit state.

use kernels::AdamWStep;

use super::{Optimizer, Parameter, StateEntry, StateValues};

/// AdamW with both moving means in full; see [`AdamWStep`].
pub struct AdamW {
    weight_decay: f64,
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

impl AdamW {
    /// Both means start at zero.
    pub fn new(parameter: Parameter) -> Self {
        let zeros = vec![0.0; parameter.len];
        Self { weight_decay: parameter.weight_decay, exp_avg: zeros.clone(), exp_avg_sq: zeros }
    }
}

impl Optimizer for AdamW {
    fn update(&mut self, weights: &mut [f32], gradient: &[f32], step: u64, learning_rate: f64) -> bool {
        let step = AdamWStep::new(step, learning_rate, self.weight_decay);
        step.apply(weights, gradient, &mut self.exp_avg, &mut self.exp_avg_sq)
    }

    fn state(&mut self) -> Vec<StateEntry<'_>> {
        vec![
            StateEntry { name: "exp_avg", values: StateValues::F32(&mut self.exp_avg) },
            StateEntry { name: "exp_avg_sq", values: StateValues::F32(&mut self.exp_avg_sq) },
        ]
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
