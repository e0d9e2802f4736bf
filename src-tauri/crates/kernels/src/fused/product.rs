//! A frozen linear layer on packed products, where nothing trains.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use half::bf16;
use rayon::prelude::*;

use crate::{
    level::vectorised,
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
    x.contiguous()?.apply_op1(FusedProduct(weight.detach()))
}

/// Rows of a weight that a thread multiplies with a vector at a time.
const ROWS: usize = 64;
/// Partial sums of such a product: several vectors' worth, since each addition waits for the one before it.
const LANES: usize = 64;

struct FusedProduct(Tensor);

/// The product of each row of a weight with `x`: as fast as the weight can be read, once, in the form it is kept in.
fn times_vector(weight: Values, x: &[f32], y: &mut [f32]) {
    match weight {
        Values::F32(weight) => {
            weight.chunks_exact(x.len()).zip(y).for_each(|(row, y)| *y = dot(row, x));
        }
        Values::Bf16(weight) => {
            weight.chunks_exact(x.len()).zip(y).for_each(|(row, y)| *y = dot_bf16(row, x));
        }
    }
}

/// `Σ value(row) · x`.
#[inline(always)]
fn sum_of_products<T: Copy>(row: &[T], x: &[f32], value: impl Fn(T) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (row, rest) = row.as_chunks::<LANES>();
    let (x, rest_x) = x.as_chunks::<LANES>();
    for (row, x) in row.iter().zip(x) {
        for (sum, (row, x)) in sums.iter_mut().zip(row.iter().zip(x)) {
            *sum += value(*row) * x;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().zip(rest_x).map(|(row, x)| value(*row) * x).sum::<f32>()
}

vectorised! {
    fn dot(row: &[f32], x: &[f32]) -> f32 {
        sum_of_products(row, x, |v| v)
    }

    fn dot_bf16(row: &[bf16], x: &[f32]) -> f32 {
        sum_of_products(row, x, |v| f32::from_bits(u32::from(v.to_bits()) << 16))
    }
}

impl CustomOp1 for FusedProduct {
    fn name(&self) -> &'static str {
        "fused-product"
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
            y.par_chunks_mut(ROWS)
                .enumerate()
                .for_each(|(i, y)| times_vector(weight.from(i * ROWS * inputs), x, y));
            return Ok((CpuStorage::F32(y), Shape::from((rows, out))));
        }
        let packed =
            Packed::new(Kind::of(matches!(weight, Values::Bf16(_))), Matrix::rows(x, inputs), rows, inputs);
        let mut y = vec![0f32; rows * out];
        multiply(&[Product { a: &packed, b: Matrix::rows(weight, inputs) }], out, Output::f32(&mut y, out));
        Ok((CpuStorage::F32(y), Shape::from((rows, out))))
    }
}
