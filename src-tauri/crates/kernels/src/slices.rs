//! The values of CPU tensors as f32 slices, and back.

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Error, Layout, Result, Storage, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

/// Fewer values than this are worked on by one thread.
const PARALLEL: usize = 1 << 15;
/// Values of a piece.
const PIECE: usize = 1 << 12;

/// The values behind a contiguous layout; bf16 is widened.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        return Err(Error::RequiresContiguous { op: "kernels" }.bt());
    };
    match storage {
        CpuStorage::F32(values) => Ok(Cow::Borrowed(&values[from..to])),
        CpuStorage::BF16(values) => {
            let mut wide = vec![0f32; to - from];
            widen(&values[from..to], &mut wide);
            Ok(Cow::Owned(wide))
        }
        other => bail!(
            "only f32 and bf16 tensors are computed on, not {:?}",
            candle_core::backend::BackendStorage::dtype(other)
        ),
    }
}

/// Runs `f` on the values of a CPU tensor, made contiguous first.
pub(crate) fn with_floats<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(&floats(storage, layout)?)),
        _ => bail!("this operation is computed on the CPU only"),
    }
}

/// Storage of the given dtype, f32 or bf16.
pub(crate) fn store(values: Vec<f32>, dtype: DType) -> CpuStorage {
    match dtype {
        DType::BF16 => CpuStorage::BF16(values.into_iter().map(bf16::from_f32).collect()),
        _ => CpuStorage::F32(values),
    }
}

/// A tensor shaped, placed and typed as `like`.
pub(crate) fn tensor_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())
}

/// Widens bf16 into `to`, of the same length.
pub(crate) fn widen(from: &[bf16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
}

/// Runs `f(first value's index, values)` over pieces of `values`, on several threads where that pays.
pub(crate) fn for_each_piece(values: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    let whole = values.len() / PIECE * PIECE;
    let (body, rest) = values.split_at_mut(whole);
    for_each_row(body, PIECE, |i, piece| f(i * PIECE, piece));
    f(whole, rest);
}

/// Runs `f(index, row)` on each row of `width` values, on several threads where that pays.
pub(crate) fn for_each_row(values: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 {
        return;
    }
    if values.len() < PARALLEL {
        values.chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    } else {
        let least = (PARALLEL / 4 / width).max(1);
        values.par_chunks_exact_mut(width).with_min_len(least).enumerate().for_each(|(i, row)| f(i, row));
    }
}
