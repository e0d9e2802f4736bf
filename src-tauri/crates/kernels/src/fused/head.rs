//! Output projection and cross entropy together, a few rows at a time, on packed products.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::rows;
use crate::{
    buffer::Buffer,
    cross_entropy::{Gives, counted_rows},
    matmul::{Add, Kind, Matrix, Output, Packed, Product, multiply},
    values::{Values, f32_tensor, hold},
};

/// Logits held at a time where they are computed slab by slab: 16 MB.
const LOGITS: usize = 1 << 22;
/// Logits held at a time where they are computed some rows at a time: 32 MB, or those of as many rows as it takes for
/// multiplying to outweigh packing the head.
const LOGITS_OF_ROWS: usize = 1 << 23;
const LEAST_ROWS: usize = 128;
/// Entries of the vocabulary whose logits are multiplied with the head at a time, so that they stay in the cache.
const DEPTH: usize = 2048;
/// Slabs of the vocabulary are multiples of so many entries.
const ALIGNED: usize = 32;

/// What [`cross_entropy`](crate::cross_entropy) computes, from f32 hidden states `[tokens, hidden]`: in f32 where the
/// frozen head `[vocab, hidden]` is f32; where it is bf16, hidden states and gradients of the logits are rounded to bf16 as
/// they are multiplied, and logits, softmax and sums stay f32.
///
/// The gradient of `hidden`, `(softmax − onehot) head`, is computed along with the loss where `hidden` is tracked, and
/// kept for the backward pass; none is computed for the head.
pub fn fused_cross_entropy(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    operation(hidden, head, targets, Gives::Sum)
}

/// What [`token_log_probs`](crate::token_log_probs) computes, as [`fused_cross_entropy`] does.
pub fn fused_token_log_probs(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    operation(hidden, head, targets, Gives::LogProbs)
}

fn operation(hidden: &Tensor, head: &Tensor, targets: &[u32], gives: Gives) -> Result<Tensor> {
    let rows = counted_rows(hidden, head, targets)?;
    if hidden.dtype() != DType::F32 {
        bail!("hidden states must be f32 here, not {:?}", hidden.dtype());
    }
    let gradient = hidden.track_op().then(|| Mutex::new(None));
    hidden.contiguous()?.apply_op1(Head {
        head: head.detach(),
        rows,
        gives,
        gradient,
        #[cfg(feature = "cuda")]
        on_card: Mutex::new(None),
    })
}

struct Head {
    head: Tensor,
    /// Row and target of each row that counts.
    rows: Vec<(usize, usize)>,
    gives: Gives,
    /// The gradient of all rows, where one is wanted, until it is taken.
    gradient: Option<Mutex<Option<Vec<f32>>>>,
    /// The same on a card.
    #[cfg(feature = "cuda")]
    on_card: Mutex<Option<Tensor>>,
}

/// The rows that count and the head they are multiplied with.
struct Projection<'a> {
    packed: Packed,
    rows: &'a [(usize, usize)],
    head: Values<'a>,
    vocab: usize,
    width: usize,
}

fn kind_of(head: Values) -> Kind {
    Kind::of(matches!(head, Values::Bf16(_)))
}

impl<'a> Projection<'a> {
    fn new(
        rows: &'a [(usize, usize)],
        hidden: &[f32],
        head: Values<'a>,
        (vocab, width): (usize, usize),
    ) -> Self {
        let packed = Packed::from_rows(kind_of(head), rows.len(), width, |i, to| {
            to.copy_from_slice(&hidden[rows[i].0 * width..(rows[i].0 + 1) * width]);
        });
        Projection { packed, rows, head, vocab, width }
    }

    /// The logits of the `count` entries from `first` on, `[rows, count]`.
    fn logits(&self, first: usize, count: usize, to: &mut [f32]) {
        let b = Matrix::rows(self.head.from(first * self.width), self.width);
        multiply(&[Product { a: &self.packed, b }], count, Output::f32(to, count));
    }

    /// Adds what the gradients of the logits of some entries give the hidden states; the first to come replaces what was there.
    fn add_gradient(&self, gradients: &Packed, first: usize, to: &mut [f32]) {
        let add = if first == 0 { Add::Nothing } else { Add::Itself };
        let b = Matrix::columns(self.head.from(first * self.width), self.width);
        multiply(&[Product { a: gradients, b }], self.width, Output::f32(to, self.width).add(add));
    }

    /// The loss of each row, and their gradients to `gradient`, with all logits in memory.
    fn at_once(&self, gradient: Option<&mut [f32]>) -> Vec<f64> {
        let (rows, vocab) = (self.rows, self.vocab);
        let mut logits = Buffer::<f32>::any(rows.len() * vocab);
        self.logits(0, vocab, &mut logits);
        let losses: Vec<f64> = logits
            .par_chunks_exact_mut(vocab)
            .zip(rows)
            .map(|(logits, &(_, target))| rows::cross_entropy(logits, target))
            .collect();
        if let Some(gradient) = gradient {
            for first in (0..vocab).step_by(DEPTH) {
                let columns = Matrix::rows(Values::F32(&logits).from(first), vocab);
                let depth = (vocab - first).min(DEPTH);
                self.add_gradient(
                    &Packed::new(kind_of(self.head), columns, rows.len(), depth),
                    first,
                    gradient,
                );
            }
        }
        losses
    }

    /// The same with the logits of a slab of the vocabulary in memory at a time: computed once for the logarithm of each
    /// row's sum of exponentials, and once more for the gradient. The head is packed three times in all, where some rows at
    /// a time pack it twice for each part: the better way where products are fast beside packing.
    fn by_slabs(&self, gradient: Option<&mut [f32]>) -> Vec<f64> {
        let (rows, vocab) = (self.rows, self.vocab);
        let slab = (LOGITS / rows.len() / ALIGNED * ALIGNED).clamp(ALIGNED, DEPTH).min(vocab);
        let slabs = || (0..vocab).step_by(slab).map(|first| (first, (vocab - first).min(slab)));
        let mut logits = Buffer::<f32>::any(rows.len() * slab);
        let mut sums = vec![rows::LogSum::default(); rows.len()];
        let mut chosen = vec![0f32; rows.len()];
        for (first, count) in slabs() {
            self.logits(first, count, &mut logits);
            let each = logits.par_chunks_exact(count).zip(&mut sums).zip(&mut chosen).zip(rows);
            each.for_each(|(((logits, sum), chosen), &(_, target))| {
                rows::add_exponentials(logits, sum);
                if let Some(logit) = target.checked_sub(first).and_then(|at| logits.get(at)) {
                    *chosen = *logit;
                }
            });
        }
        if let Some(gradient) = gradient {
            for (first, count) in slabs() {
                self.logits(first, count, &mut logits);
                let packed = Packed::from_rows(kind_of(self.head), rows.len(), count, |i, to| {
                    to.copy_from_slice(&logits[i * count..(i + 1) * count]);
                    rows::probabilities(to, 1.0, sums[i].log());
                    if let Some(p) = rows[i].1.checked_sub(first).and_then(|at| to.get_mut(at)) {
                        *p -= 1.0;
                    }
                });
                self.add_gradient(&packed, first, gradient);
            }
        }
        sums.iter().zip(&chosen).map(|(sum, &chosen)| sum.above(chosen)).collect()
    }
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
        let rows = &self.rows;
        let mut part = self.gradient.as_ref().map(|_| Buffer::<f32>::any(rows.len() * width));
        let projection = |rows| Projection::new(rows, hidden, head, (vocab, width));
        let losses: Vec<f64> = if kind_of(head) == Kind::Bf16 && rows.len() * vocab > LOGITS {
            projection(rows).by_slabs(part.as_deref_mut())
        } else {
            let most = (LOGITS_OF_ROWS / vocab).max(LEAST_ROWS);
            let parts = rows.chunks(most).enumerate().flat_map(|(i, own)| {
                let gradient =
                    part.as_deref_mut().map(|part| &mut part[i * most * width..][..own.len() * width]);
                projection(own).at_once(gradient)
            });
            parts.collect()
        };
        if let (Some(place), Some(part)) = (&self.gradient, part) {
            let mut gradient = vec![0f32; hidden.len()];
            for ((row, _), values) in rows.iter().zip(part.chunks_exact(width)) {
                gradient[row * width..(row + 1) * width].copy_from_slice(values);
            }
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradient);
        }
        Ok(self.gives.output(&losses, rows, layout.dims()[0]))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let on_card = crate::cuda::HeadOnCard {
            head: &self.head,
            rows: &self.rows,
            gradient: self.gradient.is_some(),
            each: self.gives == Gives::LogProbs,
        };
        let (storage, shape, gradient) = on_card.compute(storage, layout)?;
        *self.on_card.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        Ok((storage, shape))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if arg.device().is_cuda() {
            if self.gradient.is_none() {
                return Ok(None);
            }
            let Some(gradient) = self.on_card.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                bail!("the gradient of a cross entropy can be taken once");
            };
            let upstream = match self.gives {
                Gives::Sum => grad.reshape((1, 1))?,
                Gives::LogProbs => grad.neg()?.unsqueeze(1)?,
            };
            return gradient.broadcast_mul(&upstream.to_dtype(DType::F32)?).map(Some);
        }
        let Some(place) = &self.gradient else { return Ok(None) };
        let Some(mut gradient) = place.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("the gradient of a cross entropy can be taken once");
        };
        let (tokens, width) = arg.dims2()?;
        let upstream = self.gives.upstream(grad, tokens)?;
        let rows = gradient.par_chunks_exact_mut(width).with_min_len((1 << 14) / width + 1).zip(&upstream);
        rows.for_each(|(row, upstream)| row.iter_mut().for_each(|v| *v *= upstream));
        f32_tensor(gradient, arg).map(Some)
    }
}
