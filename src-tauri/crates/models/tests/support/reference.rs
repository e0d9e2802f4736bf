//! Comparing a model with what transformers and PEFT computed, whatever its kind.

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var, backprop::GradStore};

use crate::golden::relative_distance;

/// All numbers of a tensor.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// How far a model may be from the reference.
#[derive(Clone, Copy)]
pub struct Nearness {
    /// Of tensors by `distance`, of losses relative to them.
    pub tolerance: f64,
    pub distance: fn(&[f32], &[f32]) -> f64,
}

impl Nearness {
    /// Fails where a tensor is too far from the reference; `what` names both. Gives how far it is.
    pub fn check(self, what: &str, got: &Tensor, want: &Tensor) -> f64 {
        let apart = (self.distance)(&values(got), &values(want));
        assert!(apart <= self.tolerance, "{what} must be within {:e}, are {apart:e} apart", self.tolerance);
        apart
    }

    /// The same for logits and the loss on them.
    pub fn check_loss(
        self,
        what: &str,
        (logits, loss): (&Tensor, &Tensor),
        (want_logits, want_loss): (&Tensor, f64),
    ) {
        let apart = self.check(what, logits, want_logits);
        let got = f64::from(loss.to_scalar::<f32>().unwrap());
        let loss_apart = (got / want_loss - 1.0).abs();
        assert!(loss_apart <= self.tolerance, "{what}: the loss must be {want_loss}, is {got}");
        println!("{what} {apart:.1e}, loss {loss_apart:.1e}");
    }
}

/// Fails unless exactly the tensors of the reference are trained and each has its gradient, up to `tolerance` of its norm.
/// `noise` names a tensor whose gradient is zero but for rounding.
pub fn check_gradients(
    what: &str,
    trainable: Vec<(String, Var)>,
    gradients: &GradStore,
    tensors: &HashMap<String, Tensor>,
    (tolerance, noise): (f64, Option<&str>),
) {
    let expected = tensors.keys().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(trainable.len(), expected, "{what}: the same tensors must be trained as in PEFT");
    let mut worst = 0f64;
    for (name, var) in trainable {
        let got = gradients.get(&var).unwrap_or_else(|| panic!("{what}: {name} must get a gradient"));
        if noise == Some(name.as_str()) {
            assert!(values(got).iter().all(|g| g.abs() < 1e-6), "{what}: {name} must get none: {got}");
            continue;
        }
        let apart = relative_distance(&values(got), &values(&tensors[&format!("grad.{name}")]));
        assert!(
            apart <= tolerance,
            "{what}: {name}: the gradient is {apart:e} of its norm away from the reference"
        );
        worst = worst.max(apart);
    }
    println!("{what}: gradients {worst:.1e}");
}
