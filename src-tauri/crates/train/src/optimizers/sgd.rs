//! Plain stochastic gradient descent: torch's SGD without momentum, which is how transformers uses it.

use super::{Optimizer, Parameter, StateEntry};

/// `w ← w − lr · (g + weight_decay · w)`.
pub struct Sgd {
    weight_decay: f64,
}

impl Sgd {
    /// Remembers nothing from step to step.
    pub fn new(parameter: Parameter) -> Self {
        Self { weight_decay: parameter.weight_decay }
    }
}

impl Optimizer for Sgd {
    fn update(&mut self, weights: &mut [f32], gradient: &[f32], _step: u64, learning_rate: f64) -> bool {
        let (decay, rate) = (self.weight_decay as f32, learning_rate as f32);
        let mut finite = true;
        for (w, g) in weights.iter_mut().zip(gradient) {
            *w -= rate * (g + decay * *w);
            finite &= w.is_finite();
        }
        finite
    }

    #[cfg(feature = "cuda")]
    fn update_on_card(
        &mut self,
        weights: &candle_core::Var,
        (gradients, index): (&kernels::CardGradients, usize),
        _step: u64,
        learning_rate: f64,
    ) -> candle_core::Result<bool> {
        let factors = (learning_rate as f32, self.weight_decay as f32);
        kernels::sgd_on_card(factors, weights, gradients, index)?;
        // Whether all weights are finite is asked once a step, of the gradients.
        Ok(true)
    }

    fn state(&mut self) -> Vec<StateEntry<'_>> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::tests::check;

    #[test]
    fn equals_torch() {
        check(|p| Box::new(Sgd::new(p)), 0.0, [0.49418002, -0.24843998, 0.99553996, 0.0009999601]);
        check(|p| Box::new(Sgd::new(p)), 0.1, [0.49268475, -0.24769108, 0.9925494, 0.0009969635]);
    }
}
