//! Gradients of the adapter, added up over the micro-batches of a step, and clipping by their norm.

use candle_core::{DType, Result, Tensor};

/// One gradient for each tensor to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients(Vec<Vec<f32>>);

impl Gradients {
    /// Zeros for tensors of these sizes.
    pub fn zeros(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self(lengths.into_iter().map(|len| vec![0.0; len]).collect())
    }

    /// Adds the gradient of tensor `index`.
    ///
    /// # Errors
    /// The gradient has another number of elements than the tensor.
    pub fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        let gradient = gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        match self.0.get_mut(index) {
            Some(sum) if sum.len() == gradient.len() => {
                sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g);
                Ok(())
            }
            _ => candle_core::bail!("a gradient of {} elements does not fit tensor {index}", gradient.len()),
        }
    }

    /// Each gradient, row-major, in the order of the tensors.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The 2-norm of all elements together. NaN or infinite where an element is.
    pub fn norm(&self) -> f64 {
        self.0.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt()
    }

    /// Scales everything by `min(1, max_norm / (norm + 1e-6))`, torch's `clip_grad_norm_`, and returns the norm before.
    /// A `max_norm` of 0 leaves the gradients as they are.
    pub fn clip(&mut self, max_norm: f64) -> f64 {
        let norm = self.norm();
        let factor = max_norm / (norm + 1e-6);
        if max_norm > 0.0 && factor < 1.0 {
            self.0.iter_mut().flatten().for_each(|g| *g *= factor as f32);
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Values of torch 2.15's `clip_grad_norm_`.
    #[test]
    fn clipping_equals_torch() {
        let cases: [(f64, [f32; 3], [f32; 2]); 3] = [
            (0.3, [0.05999999, 0.11999998, -0.11999998], [0.0, 0.23999996]),
            (10.0, [1.0, 2.0, -2.0], [0.0, 4.0]),
            (0.0, [1.0, 2.0, -2.0], [0.0, 4.0]),
        ];
        for (max_norm, first, second) in cases {
            let mut gradients = Gradients(vec![vec![1.0, 2.0, -2.0], vec![0.0, 4.0]]);
            assert_eq!(gradients.clip(max_norm), 5.0, "the norm of all tensors together, before clipping");
            for (got, want) in gradients.iter().flatten().zip(first.iter().chain(&second)) {
                assert!((got - want).abs() <= 1e-7, "max_grad_norm {max_norm}: {got}, torch gives {want}");
            }
        }
    }

    #[test]
    fn gradients_add_up() {
        let mut gradients = Gradients::zeros([2]);
        let part = Tensor::new(&[[1f32], [2.0]], &Device::Cpu).unwrap();
        gradients.add(0, &part).unwrap();
        gradients.add(0, &part).unwrap();
        assert_eq!(gradients.iter().collect::<Vec<_>>(), [[2.0, 4.0]]);
        assert!(gradients.add(1, &part).is_err() && Gradients::zeros([3]).add(0, &part).is_err());
    }
}
