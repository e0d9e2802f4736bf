//! Layer normalisation (Ba et al. 2016, arXiv:1607.06450) with a frozen weight and bias.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::{
    composed,
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

/// `w · (x − mean) / sqrt(variance + eps) + b` over the last dimension: `[…, hidden]` → `[…, hidden]`, weight and bias
/// `[hidden]`.
///
/// With `r = 1 / sqrt(variance + eps)`, `n = (x − mean) · r` and `d = w · g`, the gradient is
/// `dx = r · (d − mean(d) − n · mean(d · n))`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    if x.dims().last() != Some(&weight.dims1()?) || weight.dims() != bias.dims() {
        let (width, bias) = (weight.dims(), bias.dims());
        bail!("a norm of width {width:?} and bias {bias:?} was given activations of shape {:?}", x.dims());
    }
    if composed::wanted(x, false) {
        return composed::layer_norm(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op1(LayerNorm { weight: weight.detach(), bias: bias.detach(), eps })
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// The mean of a row, and what its deviations are multiplied by.
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}

impl CustomOp1 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(storage, layout)?.into_owned();
        with_floats(&self.weight, |w| {
            with_floats(&self.bias, |b| {
                for_each_row(&mut y, w.len(), |_, row| {
                    let (mean, r) = self.moments(row);
                    row.iter_mut().zip(w).zip(b).for_each(|((v, w), b)| *v = (*v - mean) * r * w + b);
                });
            })
        })??;
        Ok((store(y, storage.dtype()), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        with_floats(arg, |x| {
            with_floats(&self.weight, |w| {
                for_each_row(&mut dx, w.len(), |i, row| {
                    let x = &x[i * w.len()..(i + 1) * w.len()];
                    let (mean, r) = self.moments(x);
                    row.iter_mut().zip(w).for_each(|(g, w)| *g *= w);
                    let count = w.len() as f32;
                    let shift = row.iter().sum::<f32>() / count;
                    let pull = row.iter().zip(x).map(|(d, x)| d * (x - mean) * r).sum::<f32>() / count;
                    row.iter_mut().zip(x).for_each(|(d, x)| *d = r * (*d - shift - (x - mean) * r * pull));
                });
            })
        })??;
        tensor_like(dx, arg).map(Some)
    }
}
