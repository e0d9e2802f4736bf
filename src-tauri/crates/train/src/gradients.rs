//! Gradients of the adapter, added up over the micro-batches of a step, and clipping by their norm.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::tensors;

/// One gradient for each tensor to train. What sums over elements does so in the same order on any number of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients(Vec<Vec<f32>>);

impl Gradients {
    /// Zeros for tensors of these sizes.
    pub fn zeros(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self(lengths.into_iter().map(|len| vec![0.0; len]).collect())
    }

    /// Makes all of them zero again, in the same memory.
    pub fn reset(&mut self) {
        self.0.par_iter_mut().for_each(|sum| sum.fill(0.0));
    }

    /// Adds the gradient of tensor `index`.
    ///
    /// # Errors
    /// The gradient has another number of elements than the tensor.
    pub fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        match self.0.get_mut(index) {
            Some(sum) if sum.len() == gradient.elem_count() => tensors::read(gradient, |gradient| {
                sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }),
            _ => candle_core::bail!("a gradient of {:?} does not fit tensor {index}", gradient.shape()),
        }
    }

    /// Each gradient, row-major, in the order of the tensors.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The same for several threads.
    pub fn par_iter(&self) -> impl IndexedParallelIterator<Item = &[f32]> {
        self.0.par_iter().map(Vec::as_slice)
    }

    /// The 2-norm of all elements together. NaN or infinite where an element is.
    pub fn norm(&self) -> f64 {
        let sums: Vec<f64> = self.par_iter().map(sum_of_squares).collect();
        sums.iter().sum::<f64>().sqrt()
    }

    /// Scales everything by `min(1, max_norm / (norm + 1e-6))`, torch's `clip_grad_norm_`, and returns the norm before.
    /// A `max_norm` of 0 leaves the gradients as they are.
    pub fn clip(&mut self, max_norm: f64) -> f64 {
        let norm = self.norm();
        let factor = max_norm / (norm + 1e-6);
        if max_norm > 0.0 && factor < 1.0 {
            let factor = factor as f32;
            self.0.par_iter_mut().for_each(|sum| sum.iter_mut().for_each(|g| *g *= factor));
        }
        norm
    }
}

/// Several sums side by side, so that an addition need not wait for the one before.
fn sum_of_squares(values: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0f64; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (sum, &value) in sums.iter_mut().zip(block) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum()
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
        let at = gradients.0[0].as_ptr();
        gradients.reset();
        gradients.add(0, &part.t().unwrap()).unwrap();
        assert_eq!(gradients.iter().collect::<Vec<_>>(), [[1.0, 2.0]], "a new step begins at zero");
        assert_eq!(gradients.0[0].as_ptr(), at, "in the same memory");
    }

    #[test]
    fn the_norm_counts_every_element_and_hides_no_bad_one() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let want = values.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let got = Gradients(vec![values.clone(), values]).norm();
            assert!((got - want * 2f64.sqrt()).abs() <= 1e-12 * got, "{len} elements: {got}");
        }
        for at in [0, 20, 32] {
            let mut gradients = Gradients::zeros([33]);
            gradients.0[0][at] = f32::NAN;
            assert!(gradients.clip(1.0).is_nan(), "element {at} is not a number");
        }
    }
}
