//! Output projection and cross entropy together, a few rows at a time, on packed products.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::rows;
use crate::{
    buffer::Buffer,
    cross_entropy::counted_rows,
    matmul::{Add, Kind, Matrix, Output, Packed, Product, multiply},
    values::{Values, f32_tensor, hold},
};

/// Logits held at a time: 32 MB.
const LOGITS: usize = 1 << 23;
/// Entries of the vocabulary whose logits are multiplied with the head at a time, so that they stay in the cache.
const DEPTH: usize = 2048;

/// What [`cross_entropy`](crate::cross_entropy) computes, from f32 hidden states `[tokens, hidden]`: in f32 where the
/// frozen head `[vocab, hidden]` is f32; where it is bf16, hidden states and gradients of the logits are rounded to bf16 as
/// they are multiplied, and logits, softmax and sums stay f32.
///
/// The gradient of `hidden`, `(softmax − onehot) head`, is computed along with the loss where `hidden` is tracked, and
/// kept for the backward pass; none is computed for the head.
pub fn fused_cross_entropy(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let rows = counted_rows(hidden, head, targets)?;
    if hidden.dtype() != DType::F32 {
        bail!("hidden states must be f32 here, not {:?}", hidden.dtype());
    }
    let gradient = hidden.track_op().then(|| Mutex::new(None));
    hidden.contiguous()?.apply_op1(Head { head: head.detach(), rows, gradient })
}

struct Head {
    head: Tensor,
    /// Row and target of each row that counts.
    rows: Vec<(usize, usize)>,
    /// The gradient of all rows, where one is wanted, until it is taken.
    gradient: Option<Mutex<Option<Vec<f32>>>>,
}

impl CustomOp1 for Head {
    fn name(&self) -> &'static str {
        "fused-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let hidden = Values::of(storage, layout)?.f32()?;
        let (vocab, width) = self.head.dims2()?;
        let head = hold(&self.head);
        let head = head.values()?;
        let kind = Kind::of(matches!(head, Values::Bf16(_)));
        let most = (LOGITS / vocab).max(1).min(self.rows.len());
        let mut logits = Buffer::<f32>::any(most * vocab);
        let mut part = Buffer::<f32>::any(most * width);
        let mut gradient = vec![0f32; if self.gradient.is_some() { hidden.len() } else { 0 }];
        let mut sum = 0f64;
        for chunk in self.rows.chunks(most.max(1)) {
            let logits = &mut logits[..chunk.len() * vocab];
            let packed = Packed::from_rows(kind, chunk.len(), width, |i, to| {
                to.copy_from_slice(&hidden[chunk[i].0 * width..(chunk[i].0 + 1) * width]);
            });
            let product = Product { a: &packed, b: Matrix::rows(head, width) };
            multiply(&[product], vocab, Output::f32(logits, vocab));
            let losses: Vec<f64> = logits
                .par_chunks_exact_mut(vocab)
                .zip(chunk)
                .map(|(logits, &(_, target))| rows::cross_entropy(logits, target))
                .collect();
            sum += losses.iter().sum::<f64>();
            if self.gradient.is_none() {
                continue;
            }
            let part = &mut part[..chunk.len() * width];
            for from in (0..vocab).step_by(DEPTH) {
                let depth = (vocab - from).min(DEPTH);
                let columns = Matrix::rows(Values::F32(logits).from(from), vocab);
                let packed = Packed::new(kind, columns, chunk.len(), depth);
                let add = if from == 0 { Add::Nothing } else { Add::Itself };
                let product = Product { a: &packed, b: Matrix::columns(head.from(from * width), width) };
                multiply(&[product], width, Output::f32(part, width).add(add));
            }
            for ((row, _), values) in chunk.iter().zip(part.chunks_exact(width)) {
                gradient[row * width..(row + 1) * width].copy_from_slice(values);
            }
        }
        if let Some(place) = &self.gradient {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradient);
        }
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(place) = &self.gradient else { return Ok(None) };
        let upstream = grad.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let Some(mut gradient) = place.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("the gradient of a cross entropy can be taken once");
        };
        gradient.par_iter_mut().with_min_len(1 << 14).for_each(|v| *v *= upstream);
        f32_tensor(gradient, arg).map(Some)
    }
}
