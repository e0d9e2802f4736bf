//! Root mean square layer normalisation (Zhang & Sennrich 2019, arXiv:1910.07467) with a frozen weight.

use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use crate::{
    composed,
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

/// `w · x / sqrt(mean(x²) + eps)` over the last dimension: `[…, hidden]` → `[…, hidden]`, weight `[hidden]`.
///
/// With `r = 1 / sqrt(mean(x²) + eps)` and `d = w · g`, the gradient is `dx = r · d − x · r³ / hidden · Σ d·x`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if x.dims().last() != Some(&weight.dims1()?) {
        bail!("a norm of width {:?} was given activations of shape {:?}", weight.dims(), x.dims());
    }
    if composed::wanted(x, x.dtype() == DType::F32) {
        return composed::rms_norm(x, weight, eps);
    }
    x.contiguous()?.apply_op1(RmsNorm { weight: weight.detach(), eps })
}

struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        let mean = row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32;
        1.0 / (mean + self.eps).sqrt()
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(storage, layout)?.into_owned();
        with_floats(&self.weight, |w| {
            for_each_row(&mut y, w.len(), |_, row| {
                let r = self.scale(row);
                row.iter_mut().zip(w).for_each(|(v, w)| *v *= r * w);
            });
        })?;
        Ok((store(y, storage.dtype()), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::rms_norm(storage, layout, &self.weight, self.eps)
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if arg.device().is_cuda() {
            return crate::cuda::rms_norm_backward(arg, &self.weight, self.eps, grad).map(Some);
        }
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        with_floats(arg, |x| {
            with_floats(&self.weight, |w| {
                for_each_row(&mut dx, w.len(), |i, row| {
                    let x = &x[i * w.len()..(i + 1) * w.len()];
                    let r = self.scale(x);
                    row.iter_mut().zip(w).for_each(|(g, w)| *g *= w);
                    let dot: f32 = row.iter().zip(x).map(|(d, x)| d * x).sum();
                    let pull = r * r * r * dot / w.len() as f32;
                    row.iter_mut().zip(x).for_each(|(d, x)| *d = r * *d - pull * x);
                });
            })
        })??;
        tensor_like(dx, arg).map(Some)
    }
}
