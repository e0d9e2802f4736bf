//! The softmax of attention scores under a causal mask.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::slices::{floats, for_each_row, store, tensor_like, with_floats};

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    /// Position of the first query among the keys: query `i` sees the keys `0..=offset + i`.
    pub offset: usize,
    /// With a sliding window, only the last so many of them.
    pub window: Option<usize>,
}

impl Mask {
    /// The keys that query `i` sees, as a range.
    fn visible(&self, query: usize, keys: usize) -> std::ops::Range<usize> {
        let end = (self.offset + query + 1).min(keys);
        let start = self.window.map_or(0, |w| end.saturating_sub(w));
        start..end
    }
}

/// `softmax(scale · scores)` over the keys that the mask leaves: `[heads, queries, keys]` → the same, 0 where masked.
///
/// With `p` the result, the gradient is `scale · p · (g − Σ g·p)`.
pub fn masked_softmax(scores: &Tensor, scale: f32, mask: Mask) -> Result<Tensor> {
    let (_, queries, keys) = scores.dims3()?;
    if mask.offset + queries > keys || mask.window == Some(0) {
        bail!("{queries} queries from position {} do not fit {keys} keys", mask.offset);
    }
    scores.contiguous()?.apply_op1(MaskedSoftmax { scale, mask })
}

struct MaskedSoftmax {
    scale: f32,
    mask: Mask,
}

impl CustomOp1 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, queries, keys) = layout.shape().dims3()?;
        let mut p = floats(storage, layout)?.into_owned();
        for_each_row(&mut p, keys, |i, row| {
            let visible = self.mask.visible(i % queries, keys);
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
            let row = &mut row[visible];
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for v in row.iter_mut() {
                *v = ((*v - max) * self.scale).exp();
                sum += *v;
            }
            let inverse = 1.0 / sum;
            row.iter_mut().for_each(|v| *v *= inverse);
        });
        Ok((store(p, storage.dtype()), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, queries, keys) = arg.dims3()?;
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        with_floats(res, |p| {
            for_each_row(&mut dx, keys, |i, row| {
                let visible = self.mask.visible(i % queries, keys);
                row[..visible.start].fill(0.0);
                row[visible.end..].fill(0.0);
                let p = &p[i * keys..(i + 1) * keys][visible.clone()];
                let row = &mut row[visible];
                let dot: f32 = row.iter().zip(p).map(|(g, p)| g * p).sum();
                row.iter_mut().zip(p).for_each(|(g, p)| *g = self.scale * p * (*g - dot));
            });
        })?;
        tensor_like(dx, arg).map(Some)
    }
}
