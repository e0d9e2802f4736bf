//! Gradients of the adapter, added up over the micro-batches of a step, and clipping by their norm.

use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;

use crate::tensors;

/// One gradient for each tensor to train, where the model is. What sums over elements does so in the same order on any number of
/// threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients(Sums);

/// Where they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sums {
    /// In the machine's memory.
    Host(Vec<Vec<f32>>),
    /// On a card.
    #[cfg(feature = "cuda")]
    Card(kernels::CardGradients),
}

impl Gradients {
    /// Zeros for tensors of these sizes, in the machine's memory.
    pub fn zeros(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self(Sums::Host(lengths.into_iter().map(|len| vec![0.0; len]).collect()))
    }

    /// Zeros for these tensors, where they are.
    ///
    /// # Errors
    /// A card has no memory left.
    pub fn of(trainable: &[(String, Var)]) -> Result<Self> {
        let lengths = trainable.iter().map(|(_, var)| var.elem_count());
        #[cfg(feature = "cuda")]
        if let Some((_, var)) = trainable.first().filter(|(_, var)| var.device().is_cuda()) {
            return Ok(Self(Sums::Card(kernels::CardGradients::zeros(var.device(), lengths)?)));
        }
        Ok(Self::zeros(lengths))
    }

    /// Makes all of them zero again, in the same memory.
    ///
    /// # Errors
    /// The card they are on fails.
    pub fn reset(&mut self) -> Result<()> {
        match &mut self.0 {
            Sums::Host(sums) => sums.par_iter_mut().for_each(|sum| sum.fill(0.0)),
            #[cfg(feature = "cuda")]
            Sums::Card(sums) => sums.reset()?,
        }
        Ok(())
    }

    /// Adds the gradient of tensor `index`.
    ///
    /// # Errors
    /// The gradient has another number of elements than the tensor.
    pub fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        match &mut self.0 {
            Sums::Host(sums) => match sums.get_mut(index) {
                Some(sum) if sum.len() == gradient.elem_count() => tensors::read(gradient, |gradient| {
                    sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
                }),
                _ => candle_core::bail!("a gradient of {:?} does not fit tensor {index}", gradient.shape()),
            },
            #[cfg(feature = "cuda")]
            Sums::Card(sums) => sums.add(index, gradient),
        }
    }

    /// What collects gradients of adapters on a card.
    #[cfg(feature = "cuda")]
    pub(crate) fn beside(&self) -> Option<kernels::Beside> {
        matches!(self.0, Sums::Card(_)).then(kernels::Beside::open)
    }

    /// Adds what was collected; gives the tensors it is of.
    ///
    /// # Errors
    /// It is of a tensor that is not trained.
    #[cfg(feature = "cuda")]
    pub(crate) fn add_part(
        &mut self,
        part: &kernels::AdapterGradient,
        index: impl Fn(candle_core::TensorId) -> Option<usize>,
    ) -> Result<Vec<usize>> {
        match &mut self.0 {
            Sums::Card(sums) => sums.add_part(part, index),
            Sums::Host(_) => candle_core::bail!("gradients on a card are not added in the machine's memory"),
        }
    }

    /// Each gradient that is in the machine's memory, row-major, in the order of the tensors.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        match &self.0 {
            Sums::Host(sums) => sums.iter(),
            #[cfg(feature = "cuda")]
            Sums::Card(_) => [].iter(),
        }
        .map(Vec::as_slice)
    }

    /// The same of those that are on a card too, in memory of their own.
    ///
    /// # Errors
    /// The card they are on fails.
    pub fn values(&self) -> Result<Vec<Vec<f32>>> {
        match &self.0 {
            Sums::Host(sums) => Ok(sums.clone()),
            #[cfg(feature = "cuda")]
            Sums::Card(sums) => sums.to_vecs(),
        }
    }

    /// Where they are.
    pub(crate) fn sums(&mut self) -> &mut Sums {
        &mut self.0
    }

    /// The 2-norm of all elements together. NaN or infinite where an element is.
    ///
    /// # Errors
    /// The card they are on fails.
    pub fn norm(&self) -> Result<f64> {
        match &self.0 {
            Sums::Host(sums) => {
                let sums: Vec<f64> = sums.par_iter().map(|sum| sum_of_squares(sum)).collect();
                Ok(sums.iter().sum::<f64>().sqrt())
            }
            #[cfg(feature = "cuda")]
            Sums::Card(sums) => sums.norm(),
        }
    }

    /// Scales everything by `min(1, max_norm / (norm + 1e-6))`, torch's `clip_grad_norm_`, and returns the norm before.
    /// A `max_norm` of 0 leaves the gradients as they are.
    ///
    /// # Errors
    /// The card they are on fails.
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        self.clip_scaled(max_norm, 1.0)
    }

    /// The same of gradients of a loss that was multiplied by `scale`, which is taken off them first. Where one of them is not finite,
    /// the norm is not either.
    ///
    /// # Errors
    /// The card they are on fails.
    pub fn clip_scaled(&mut self, max_norm: f64, scale: f64) -> Result<f64> {
        let norm = self.norm()? / scale;
        let mut factor = max_norm / (norm + 1e-6);
        if max_norm <= 0.0 || factor >= 1.0 {
            factor = 1.0;
        }
        factor /= scale;
        if factor != 1.0 && norm.is_finite() {
            let factor = factor as f32;
            match &mut self.0 {
                Sums::Host(sums) => {
                    sums.par_iter_mut().for_each(|sum| sum.iter_mut().for_each(|g| *g *= factor));
                }
                #[cfg(feature = "cuda")]
                Sums::Card(sums) => sums.scale(factor)?,
            }
        }
        Ok(norm)
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
            let mut gradients = Gradients(Sums::Host(vec![vec![1.0, 2.0, -2.0], vec![0.0, 4.0]]));
            assert_eq!(
                gradients.clip(max_norm).unwrap(),
                5.0,
                "the norm of all tensors together, before clipping"
            );
            for (got, want) in gradients.values().unwrap().iter().flatten().zip(first.iter().chain(&second)) {
                assert!((got - want).abs() <= 1e-7, "max_grad_norm {max_norm}: {got}, torch gives {want}");
            }
        }
    }

    fn address(gradients: &Gradients) -> *const f32 {
        match &gradients.0 {
            Sums::Host(sums) => sums[0].as_ptr(),
            #[cfg(feature = "cuda")]
            Sums::Card(_) => unreachable!("these are in the machine's memory"),
        }
    }

    #[test]
    fn gradients_add_up() {
        let mut gradients = Gradients::zeros([2]);
        let part = Tensor::new(&[[1f32], [2.0]], &Device::Cpu).unwrap();
        gradients.add(0, &part).unwrap();
        gradients.add(0, &part).unwrap();
        assert_eq!(gradients.values().unwrap(), [[2.0, 4.0]]);
        assert!(gradients.add(1, &part).is_err() && Gradients::zeros([3]).add(0, &part).is_err());
        let at = address(&gradients);
        gradients.reset().unwrap();
        gradients.add(0, &part.t().unwrap()).unwrap();
        assert_eq!(gradients.values().unwrap(), [[1.0, 2.0]], "a new step begins at zero");
        assert_eq!(address(&gradients), at, "in the same memory");
    }

    #[test]
    fn the_norm_counts_every_element_and_hides_no_bad_one() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let want = values.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let got = Gradients(Sums::Host(vec![values.clone(), values])).norm().unwrap();
            assert!((got - want * 2f64.sqrt()).abs() <= 1e-12 * got, "{len} elements: {got}");
        }
        for at in [0, 20, 32] {
            let mut values = vec![0.0; 33];
            values[at] = f32::NAN;
            let mut gradients = Gradients(Sums::Host(vec![values]));
            assert!(gradients.clip(1.0).unwrap().is_nan(), "element {at} is not a number");
        }
    }
}
