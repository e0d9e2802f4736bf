//! Output projection and cross entropy, a part of the vocabulary at a time, in f32.

use std::sync::Arc;

use candle_core::{D, DType, Result, Tensor};

use super::{given, linear::Slabs, wide};
use crate::{FrozenWeight, Head};

/// Rows that are projected at a time.
const ROWS: usize = 1024;
/// Logits held at a time: 32 MB.
const LOGITS: usize = 1 << 23;

/// Logits of `[rows, hidden]`, f32 `[rows, vocab]`, without a gradient.
pub(crate) fn logits(head: &Head, hidden: &Tensor) -> Result<Tensor> {
    let hidden = wide(hidden)?;
    if hidden.device().is_cuda() {
        return finished(head, crate::fused_product(&hidden, &head.weight)?, None);
    }
    let weight = FrozenWeight::from(&head.weight);
    let slabs = Slabs::narrow(&weight, hidden.device(), LOGITS / weight.dims2()?.1.max(1))?;
    let parts = slabs.map(|slab| {
        let slab = slab?;
        let places = (slab.first, slab.rows.dim(0)?);
        finished(head, hidden.matmul(&slab.rows.t()?)?, Some(places))
    });
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)
}

/// Bias and cap on products with a part of the vocabulary, or all of it.
fn finished(head: &Head, products: Tensor, part: Option<(usize, usize)>) -> Result<Tensor> {
    let mut logits = products;
    if let Some(bias) = &head.bias {
        let bias = wide(bias)?;
        let own = match part {
            Some((first, count)) => bias.narrow(0, first, count)?,
            None => bias,
        };
        logits = logits.broadcast_add(&own)?;
    }
    match head.cap.map(f64::from) {
        Some(cap) => (logits / cap)?.tanh()? * cap,
        None => Ok(logits),
    }
}

/// The slope of the cap where it gives `logits`.
fn slope(cap: f32, logits: &Tensor) -> Result<Tensor> {
    (logits / f64::from(cap))?.sqr()?.affine(-1.0, 1.0)
}

/// Rows that count, of one piece: where they are among all, and their targets.
#[derive(Debug, Clone)]
struct Piece {
    rows: Tensor,
    targets: Tensor,
}

/// A head, and the rows that it is used on.
#[derive(Debug, Clone)]
struct Projection {
    head: Head,
    pieces: Arc<Vec<Piece>>,
}

/// What the forward pass finds of the rows of a piece, `[rows, 1]`.
struct Found {
    /// The logarithm of the sum of exponentials.
    log_sum: Tensor,
    /// The logit of the target.
    target: Tensor,
}

impl Projection {
    fn new(hidden: &Tensor, head: &Head, counted: &[(usize, usize)]) -> Result<Self> {
        let device = hidden.device();
        let pieces = counted.chunks(ROWS).map(|own| {
            let index = |of: fn(&(usize, usize)) -> usize| -> Result<Tensor> {
                let all: Vec<u32> = own.iter().map(|pair| of(pair) as u32).collect();
                Tensor::from_vec(all, own.len(), device)
            };
            Ok(Piece { rows: index(|pair| pair.0)?, targets: index(|pair| pair.1)? })
        });
        let pieces = Arc::new(pieces.collect::<Result<Vec<_>>>()?);
        Ok(Projection { head: Head { weight: head.weight.detach(), ..head.clone() }, pieces })
    }

    /// Runs `f` on the logits of each part of the vocabulary, and on its rows of the head.
    fn each_part(&self, hidden: &Tensor, mut f: impl FnMut(Tensor, Tensor) -> Result<()>) -> Result<()> {
        let weight = FrozenWeight::from(&self.head.weight);
        let (rows, width) = hidden.dims2()?;
        for slab in Slabs::narrow(&weight, hidden.device(), LOGITS / rows.max(width).max(1))? {
            let slab = slab?;
            let part = (slab.first, slab.rows.dim(0)?);
            f(finished(&self.head, hidden.matmul(&slab.rows.t()?)?, Some(part))?, slab.rows)?;
        }
        Ok(())
    }

    /// The rows of the head that belong to the targets, f32.
    fn of_targets(&self, piece: &Piece) -> Result<Tensor> {
        wide(&crate::embedding(&piece.targets, &self.head.weight)?)
    }

    fn found(&self, hidden: &Tensor, piece: &Piece) -> Result<Found> {
        let products = (hidden * self.of_targets(piece)?)?.sum_keepdim(1)?;
        let bias = match &self.head.bias {
            Some(bias) => Some(wide(bias)?.index_select(&piece.targets, 0)?.unsqueeze(1)?),
            None => None,
        };
        let target = match bias {
            Some(bias) => (products + bias)?,
            None => products,
        };
        let target = finished(&Head { bias: None, ..self.head.clone() }, target, None)?;
        // Largest logit so far, and the sum of exponentials below it.
        let mut sums: Option<(Tensor, Tensor)> = None;
        self.each_part(hidden, |logits, _| {
            let own = logits.max_keepdim(D::Minus1)?;
            let most = match &sums {
                Some((before, _)) => before.maximum(&own)?,
                None => own,
            };
            let sum = logits.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?;
            let sum = match &sums {
                Some((before, total)) => (sum + ((before - &most)?.exp()? * total)?)?,
                None => sum,
            };
            sums = Some((most, sum));
            Ok(())
        })?;
        let log_sum = match sums {
            Some((most, sum)) => (most + sum.log()?)?,
            None => target.zeros_like()?,
        };
        Ok(Found { log_sum, target })
    }

    /// The gradient of hidden rows, where `upstream` is that of each row's loss, `[rows, 1]`.
    fn backward(&self, hidden: &Tensor, piece: &Piece, upstream: &Tensor) -> Result<Tensor> {
        let Found { log_sum, target } = self.found(hidden, piece)?;
        let of_target = match self.head.cap {
            Some(cap) => (slope(cap, &target)? * upstream)?,
            None => upstream.clone(),
        };
        let mut dx = self.of_targets(piece)?.broadcast_mul(&of_target.neg()?)?;
        self.each_part(hidden, |logits, rows| {
            let mut by_logits = logits.broadcast_sub(&log_sum)?.exp()?.broadcast_mul(upstream)?;
            if let Some(cap) = self.head.cap {
                by_logits = (by_logits * slope(cap, &logits)?)?;
            }
            dx = (&dx + by_logits.matmul(&rows)?)?;
            Ok(())
        })?;
        Ok(dx)
    }
}

/// `log softmax(logits)[target]` of each row that counts, 0 of the others: `[tokens, hidden]` → f32 `[tokens]`. `counted` has row and
/// target of those that count.
pub(crate) fn log_probs(hidden: &Tensor, head: &Head, counted: &[(usize, usize)]) -> Result<Tensor> {
    let (tokens, _) = hidden.dims2()?;
    let projection = Projection::new(hidden, head, counted)?;
    let own = hidden.detach();
    let mut value = Tensor::zeros(tokens, DType::F32, hidden.device())?;
    for piece in projection.pieces.iter() {
        let found = projection.found(&wide(&own.index_select(&piece.rows, 0)?)?, piece)?;
        let log_probs = (found.target - found.log_sum)?.squeeze(1)?;
        value = value.index_add(&piece.rows, &log_probs, 0)?;
    }
    given("token-log-probs", &[hidden], value, move |operands, _, gradient| {
        let hidden = operands[0].detach();
        let of_losses = wide(gradient)?.neg()?.unsqueeze(1)?.contiguous()?;
        let mut dx = Tensor::zeros(hidden.shape(), DType::F32, hidden.device())?;
        for piece in projection.pieces.iter() {
            let own = |x: &Tensor| wide(&x.index_select(&piece.rows, 0)?);
            let part = projection.backward(&own(&hidden)?, piece, &own(&of_losses)?)?;
            dx = dx.index_add(&piece.rows, &part, 0)?;
        }
        Ok(vec![Some(dx.to_dtype(hidden.dtype())?)])
    })
}

/// The sum of the losses of the rows that count, an f32 scalar.
pub(crate) fn loss(hidden: &Tensor, head: &Head, counted: &[(usize, usize)]) -> Result<Tensor> {
    log_probs(hidden, head, counted)?.sum_all()?.neg()
}
