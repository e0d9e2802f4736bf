//! The softmax of attention scores under a causal mask.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::{
    composed::{self, Scores, Seen},
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

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

/// What scores go through before they are probabilities.
#[derive(Debug, Clone)]
pub struct Scoring {
    /// Scores are multiplied by this first.
    pub scale: f32,
    /// Then a score `s` becomes `cap · tanh(s / cap)`: Gemma 2.
    pub cap: Option<f32>,
    /// One more score for each head, `[heads]`, that takes its share of the sum and is dropped: gpt-oss.
    pub sinks: Option<Tensor>,
}

impl Scoring {
    /// Only scaled.
    pub fn scaled(scale: f32) -> Self {
        Scoring { scale, cap: None, sinks: None }
    }

    /// A score after scale and cap, and its derivative.
    fn score(&self, s: f32) -> (f32, f32) {
        match self.cap {
            None => (s * self.scale, self.scale),
            Some(cap) => {
                let t = (s * self.scale / cap).tanh();
                (cap * t, self.scale * (1.0 - t * t))
            }
        }
    }
}

/// The softmax over the keys that the mask leaves: `[heads, queries, keys]` → the same, 0 where masked.
///
/// With `p` the result and `f` what `scoring` makes of a score `s`, the gradient is `f′(s) · p · (g − Σ g·p)`, with sinks
/// too, whose own gradient is none.
pub fn masked_softmax(scores: &Tensor, scoring: &Scoring, mask: Mask) -> Result<Tensor> {
    let (heads, queries, keys) = scores.dims3()?;
    if mask.offset + queries > keys || mask.window == Some(0) {
        bail!("{queries} queries from position {} do not fit {keys} keys", mask.offset);
    }
    if composed::wanted(scores, false) {
        let seen = Seen::Past { offset: mask.offset, window: mask.window };
        return composed::softmax(scores, Scores { scoring: scoring.clone(), bias: None, seen });
    }
    let sinks = match &scoring.sinks {
        None => None,
        Some(sinks) if sinks.dims() == [heads] => Some(with_floats(sinks, <[f32]>::to_vec)?),
        Some(sinks) => bail!("{heads} heads were given sinks of shape {:?}", sinks.dims()),
    };
    scores.contiguous()?.apply_op1(MaskedSoftmax { scoring: scoring.clone(), sinks, mask })
}

struct MaskedSoftmax {
    scoring: Scoring,
    sinks: Option<Vec<f32>>,
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
            row.iter_mut().for_each(|v| *v = self.scoring.score(*v).0);
            let sink = self.sinks.as_ref().map(|sinks| sinks[i / queries]);
            let max = row.iter().copied().fold(sink.unwrap_or(f32::NEG_INFINITY), f32::max);
            let mut sum = sink.map_or(0.0, |sink| (sink - max).exp());
            for v in row.iter_mut() {
                *v = (*v - max).exp();
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
                row.iter_mut().zip(p).for_each(|(g, p)| *g = self.scoring.scale * p * (*g - dot));
            });
        })?;
        if self.scoring.cap.is_some() {
            with_floats(arg, |scores| {
                for_each_row(&mut dx, keys, |i, row| {
                    let scores = &scores[i * keys..(i + 1) * keys];
                    for (g, s) in row.iter_mut().zip(scores) {
                        *g *= self.scoring.score(*s).1 / self.scoring.scale;
                    }
                });
            })?;
        }
        tensor_like(dx, arg).map(Some)
    }
}
