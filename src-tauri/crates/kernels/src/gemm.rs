//! Matrix products of activations with a weight matrix that stays where it is.
#![allow(unsafe_code)]

use ::gemm::{Parallelism, gemm};
use candle_core::Result;
use rayon::prelude::*;

use crate::{FrozenWeight, frozen_weight::Source, values::Values};

/// Values of a weight other than f32 that are widened at a time: 1 MB of f32, so that they are still in the cache when used.
const WIDENED: usize = 1 << 18;

/// Runs `f` on the values of a `[rows, columns]` weight, without a copy.
pub(crate) fn with_matrix<R>(weight: &FrozenWeight, f: impl FnOnce(Source, usize, usize) -> R) -> Result<R> {
    let (rows, columns) = weight.dims2()?;
    let held = weight.hold();
    Ok(f(held.source()?, rows, columns))
}

/// `x wᵀ`: `[m, columns]` by `[rows, columns]` → `[m, rows]`.
pub(crate) fn times_transposed(x: &[f32], w: Source, rows: usize, columns: usize) -> Vec<f32> {
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
pub(crate) fn times(x: &[f32], w: Source, rows: usize, columns: usize) -> Vec<f32> {
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
fn blocks(w: Source, rows: usize, columns: usize, mut f: impl FnMut(usize, &[f32])) {
    if rows == 0 || columns == 0 {
        return;
    }
    if let Source::Values(Values::F32(values)) = w {
        return f(0, values);
    }
    let size = (WIDENED / columns).max(1) * columns;
    let mut wide = vec![0f32; size.min(rows * columns)];
    for first in (0..rows * columns).step_by(size) {
        let count = (rows * columns - first).min(size);
        let wide = &mut wide[..count];
        let piece = count.div_ceil(rayon::current_num_threads()).max(1 << 12);
        wide.par_chunks_mut(piece).enumerate().for_each(|(i, to)| w.read(first + i * piece, to));
        f(first / columns, wide);
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
