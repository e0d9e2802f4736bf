//! A linear layer whose weight is frozen.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::{
    FrozenWeight, composed,
    gemm::{times, times_transposed, with_matrix},
    slices::{floats, store, tensor_like, with_floats},
};

/// `x wᵀ`: `[tokens, in]` by a frozen `[out, in]` → `[tokens, out]`, in the dtype of `x`.
///
/// The gradient of `x` is `g w`; none is computed for `w`. The weight may be f32, bf16 or quantised
/// whatever `x` is; products are of f32. On an NVIDIA card `x` is f32, and rounded to
/// the precision of the weight as it is multiplied.
pub fn frozen_linear(x: &Tensor, weight: impl Into<FrozenWeight>) -> Result<Tensor> {
    let weight = weight.into();
    let (_, width) = x.dims2()?;
    let (out, inputs) = weight.dims2()?;
    if width != inputs {
        bail!("a linear layer [{out}, {inputs}] was given activations of width {width}");
    }
    if composed::wanted(x, x.dtype() == DType::F32) {
        return composed::frozen_linear(x, weight);
    }
    x.contiguous()?.apply_op1(FrozenLinear { weight: weight.detach() })
}

struct FrozenLinear {
    weight: FrozenWeight,
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let (tokens, _) = layout.shape().dims2()?;
        let (y, out) =
            with_matrix(&self.weight, |w, out, inputs| (times_transposed(&x, w, out, inputs), out))?;
        Ok((store(y, candle_core::backend::BackendStorage::dtype(storage)), Shape::from((tokens, out))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::frozen_linear(storage, layout, &self.weight)
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if arg.device().is_cuda() {
            return crate::cuda::frozen_linear_backward(grad, &self.weight).map(Some);
        }
        let dx =
            with_floats(grad, |g| with_matrix(&self.weight, |w, out, inputs| times(g, w, out, inputs)))??;
        tensor_like(dx, arg).map(Some)
    }
}
