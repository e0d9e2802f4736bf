//! The Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage};

use crate::{
    composed,
    slices::{floats, for_each_piece, store, tensor_like, with_floats},
};

/// The factor of the cube in the form with tanh.
pub(crate) const CUBIC: f32 = 0.044715;

/// How the normal distribution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// `x · Φ(x)` by the error function: `gelu` of transformers.
    Exact,
    /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`: `gelu_new` and `gelu_pytorch_tanh` of transformers.
    Tanh,
}

impl Gelu {
    /// The value and the derivative.
    pub(crate) fn with_slope(self, x: f32) -> (f32, f32) {
        match self {
            Gelu::Exact => {
                let wide = f64::from(x);
                let below =
                    0.5 * (1.0 + candle_core::cpu::erf::erf_f64(wide * std::f64::consts::FRAC_1_SQRT_2));
                let density = (-0.5 * wide * wide).exp() / (2.0 * std::f64::consts::PI).sqrt();
                ((wide * below) as f32, (below + wide * density) as f32)
            }
            Gelu::Tanh => {
                let root = (2.0 / std::f32::consts::PI).sqrt();
                let t = (root * (x + CUBIC * x * x * x)).tanh();
                let slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * CUBIC * x * x);
                (0.5 * x * (1.0 + t), slope)
            }
        }
    }
}

/// The activation, element by element; the gradient is multiplied by its derivative.
pub fn gelu(x: &Tensor, form: Gelu) -> Result<Tensor> {
    if composed::wanted(x, false) {
        return composed::gelu(x, form);
    }
    x.contiguous()?.apply_op1(Activation(form))
}

struct Activation(Gelu);

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(storage, layout)?.into_owned();
        for_each_piece(&mut y, |_, piece| piece.iter_mut().for_each(|v| *v = self.0.with_slope(*v).0));
        Ok((store(y, storage.dtype()), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        with_floats(arg, |x| {
            for_each_piece(&mut dx, |start, piece| {
                piece.iter_mut().zip(&x[start..]).for_each(|(d, x)| *d *= self.0.with_slope(*x).1);
            });
        })?;
        tensor_like(dx, arg).map(Some)
    }
}
