//! Plain stochastic gradient descent: torch's SGD without momentum, which is how transformers uses it.

use super::{Optimizer, Parameter, StateEntry};

/// `w ← w − lr · (g + weight_decay · w)`.
pub struct Sgd {
    weight_decay: Vec<f64>,
}

impl Sgd {
    /// Remembers nothing but the weight decay of each tensor.
    pub fn new(parameters: &[Parameter]) -> Self {
        Self { weight_decay: parameters.iter().map(|p| p.weight_decay).collect() }
    }
}

impl Optimizer for Sgd {
    fn update(
        &mut self,
        index: usize,
        weights: &mut [f32],
        gradient: &[f32],
        _step: u64,
        learning_rate: f64,
    ) {
        let decay = self.weight_decay[index] as f32;
        let rate = learning_rate as f32;
        for (w, g) in weights.iter_mut().zip(gradient) {
            *w -= rate * (g + decay * *w);
        }
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
