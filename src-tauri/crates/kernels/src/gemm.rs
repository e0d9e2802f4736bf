//! Matrix products of activations with a weight matrix that stays where it is.
#![allow(unsafe_code)]

use ::gemm::{Parallelism, gemm};
use candle_core::{CpuStorage, Result, Storage, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

use crate::slices::widen;

/// Values of a bf16 weight that are widened at a time: 1 MB of f32, so that they are still in the cache when used.
const WIDENED: usize = 1 << 18;

/// A matrix `[rows, columns]`, row-major.
pub(crate) enum Matrix<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// Runs `f` on the values of a contiguous `[rows, columns]` CPU tensor, without a copy.
pub(crate) fn with_matrix<R>(tensor: &Tensor, f: impl FnOnce(Matrix, usize, usize) -> R) -> Result<R> {
    let (rows, columns) = tensor.dims2()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("a weight must be contiguous") };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(f(Matrix::F32(&values[from..to]), rows, columns)),
        Storage::Cpu(CpuStorage::BF16(values)) => Ok(f(Matrix::Bf16(&values[from..to]), rows, columns)),
        _ => bail!("a weight must be f32 or bf16 on the CPU"),
    }
}

/// `x wᵀ`: `[m, columns]` by `[rows, columns]` → `[m, rows]`.
pub(crate) fn times_transposed(x: &[f32], w: Matrix, rows: usize, columns: usize) -> Vec<f32> {
    let m = x.len().checked_div(columns).unwrap_or(0);
    let mut out = vec![0f32; m * rows];
    blocks(w, rows, columns, |first, block| {
        let count = block.len() / columns;
        let out = &mut out[first..];
        let w = View { values: block, row_stride: 1, column_stride: columns };
        product(m, count, columns, out, rows, false, View::rows(x, columns), w);
    });
    out
}

/// `x w`: `[m, rows]` by `[rows, columns]` → `[m, columns]`.
pub(crate) fn times(x: &[f32], w: Matrix, rows: usize, columns: usize) -> Vec<f32> {
    let m = x.len().checked_div(rows).unwrap_or(0);
    let mut out = vec![0f32; m * columns];
    blocks(w, rows, columns, |first, block| {
        let count = block.len() / columns;
        let x = View { values: &x[first..], row_stride: rows, column_stride: 1 };
        product(m, columns, count, &mut out, columns, first > 0, x, View::rows(block, columns));
    });
    out
}

/// Gives `f` the index of the first row and the f32 values of one block of whole rows after the other.
fn blocks(w: Matrix, rows: usize, columns: usize, mut f: impl FnMut(usize, &[f32])) {
    if rows == 0 || columns == 0 {
        return;
    }
    match w {
        Matrix::F32(values) => f(0, values),
        Matrix::Bf16(values) => {
            let size = (WIDENED / columns).max(1) * columns;
            let mut wide = vec![0f32; size.min(values.len())];
            for (i, block) in values.chunks(size).enumerate() {
                let wide = &mut wide[..block.len()];
                let piece = block.len().div_ceil(rayon::current_num_threads()).max(1 << 12);
                wide.par_chunks_mut(piece)
                    .zip(block.par_chunks(piece))
                    .for_each(|(to, from)| widen(from, to));
                f(i * size / columns, wide);
            }
        }
    }
}

/// A matrix with strides, in values.
struct View<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    fn rows(values: &'a [f32], row_stride: usize) -> Self {
        View { values, row_stride, column_stride: 1 }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
    }
}

/// `out (+)= a b`, `[m, k]` by `[k, n]`, where a row of `out` starts every `out_stride` values.
#[allow(clippy::too_many_arguments)]
fn product(m: usize, n: usize, k: usize, out: &mut [f32], out_stride: usize, add: bool, a: View, b: View) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "the operands of a product must hold all of its elements");
    assert!(
        n <= out_stride && (m - 1) * out_stride + n <= out.len(),
        "the result of a product must fit its place"
    );
    // SAFETY: the assertions above keep every address that the strides reach inside the three slices; `out` is
    // borrowed mutably, so it overlaps neither operand; f32 has no invalid values.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1f32,
            1f32,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}
