//! A frozen linear layer on packed products, where nothing trains.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::vector::times_vector;
use crate::{
    composed,
    matmul::{Kind, Matrix, Output, Packed, Product, multiply},
    values::{Values, hold},
};

/// `x wᵀ`: f32 `[tokens, in]` by a frozen f32 or bf16 `[out, in]` → f32 `[tokens, out]`. With a bf16 weight `x` is rounded
/// to bf16 as it is multiplied, unless it is a single row; sums are f32. A backward pass through it is an error.
pub fn fused_product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    let (out, inputs) = weight.dims2()?;
    if width != inputs || x.dtype() != DType::F32 {
        bail!("a linear layer [{out}, {inputs}] was given {:?} of {:?}", x.shape(), x.dtype());
    }
    if composed::wanted(x, true) {
        return composed::product(x, weight);
    }
    x.contiguous()?.apply_op1(FusedProduct(weight.detach()))
}

struct FusedProduct(Tensor);

impl CustomOp1 for FusedProduct {
    fn name(&self) -> &'static str {
        "fused-product"
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::product(storage, layout, &self.0)
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Values::of(storage, layout)?;
        let (out, inputs) = self.0.dims2()?;
        let (rows, _) = layout.shape().dims2()?;
        let weight = hold(&self.0);
        let weight = weight.values()?;
        if rows == 1 {
            let x = x.f32()?;
            let mut y = vec![0f32; out];
            times_vector(weight, x, &mut y);
            return Ok((CpuStorage::F32(y), Shape::from((rows, out))));
        }
        let packed =
            Packed::new(Kind::of(matches!(weight, Values::Bf16(_))), Matrix::rows(x, inputs), rows, inputs);
        let mut y = vec![0f32; rows * out];
        multiply(&[Product { a: &packed, b: Matrix::rows(weight, inputs) }], out, Output::f32(&mut y, out));
        Ok((CpuStorage::F32(y), Shape::from((rows, out))))
    }
}
