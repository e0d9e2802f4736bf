//! Attention of sequences over sequences as encoder-decoders have it: of an encoder over itself, of a decoder over itself and
//! over its source, with a scale and a frozen bias of the model's own.

use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use crate::{
    Scoring,
    composed::{self, Scores, Seen},
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// All of them.
    All,
    /// Query `i` sees the keys `0..=offset + i`.
    Past {
        /// Position of the first query among the keys.
        offset: usize,
    },
}

/// Attention with as many key-value heads as query heads.
#[derive(Debug, Clone)]
pub struct PairAttention {
    /// Heads.
    pub heads: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Which keys a query sees.
    pub sight: Sight,
}

impl PairAttention {
    /// Attention of each sequence over the one in the same place: queries `[tokens, heads · dim]` in sequences of
    /// `query_lengths`, keys and values `[other tokens, heads · dim]` in sequences of `key_lengths` → `[tokens, heads · dim]`.
    /// `bias(t, n)` gives `[heads, t, n]` to be added to the scaled scores of `t` queries over `n` keys; it gets no gradient.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        query_lengths: &[usize],
        key_lengths: &[usize],
        bias: Option<&dyn Fn(usize, usize) -> Result<Tensor>>,
    ) -> Result<Tensor> {
        let fits = |x: &Tensor, lengths: &[usize]| x.dim(0).is_ok_and(|n| n == lengths.iter().sum::<usize>());
        if !fits(q, query_lengths) || !fits(k, key_lengths) || query_lengths.len() != key_lengths.len() {
            bail!(
                "sequences of {query_lengths:?} and {key_lengths:?} tokens do not fit {:?} and {:?}",
                q.dims(),
                k.dims()
            );
        }
        let (mut at, mut key_at) = (0, 0);
        let mut outputs = Vec::with_capacity(query_lengths.len());
        for (&t, &n) in query_lengths.iter().zip(key_lengths) {
            if t > 0 {
                let queries = q.narrow(0, at, t)?;
                let part = |x: &Tensor| self.split(&x.narrow(0, key_at, n)?);
                let bias = bias.map(|bias| bias(t, n)).transpose()?;
                outputs.push(self.over(&queries, &part(k)?, &part(v)?, bias.as_ref())?);
            }
            at += t;
            key_at += n;
        }
        match outputs.as_slice() {
            [one] => Ok(one.clone()),
            [] => Ok(q.clone()),
            many => Tensor::cat(many, 0),
        }
    }

    /// Heads first: `[tokens, heads · dim]` → contiguous `[heads, tokens, dim]`.
    ///
    /// # Errors
    /// A width that the heads do not divide.
    pub fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        if !width.is_multiple_of(self.heads) {
            bail!("{} heads do not divide a width of {width}", self.heads);
        }
        x.reshape((tokens, self.heads, width / self.heads))?.transpose(0, 1)?.contiguous()
    }

    /// Attention of queries `[t, heads · dim]` over keys and values `[heads, n, dim]`, with a bias `[heads, t, n]` →
    /// `[t, heads · dim]`, in the dtype of the queries.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn over(&self, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (t, width) = q.dims2()?;
        let dtype = q.dtype();
        let wide = |x: &Tensor| if x.dtype() == DType::F32 { Ok(x.clone()) } else { x.to_dtype(DType::F32) };
        if composed::wanted(q, false) {
            let scores = scores(self.scale, self.sight, bias)?;
            let out = composed::attend(&self.split(&wide(q)?)?, &wide(k)?, &wide(v)?, scores)?;
            return out.transpose(0, 1)?.contiguous()?.reshape((t, width))?.to_dtype(dtype);
        }
        let scores = self.split(&wide(q)?)?.matmul(&wide(k)?.t()?)?;
        let p = biased_softmax(&scores, self.scale, self.sight, bias)?;
        let out = p.matmul(&wide(v)?.contiguous()?)?.transpose(0, 1)?.contiguous()?.reshape((t, width))?;
        if dtype == DType::F32 { Ok(out) } else { out.to_dtype(dtype) }
    }
}

/// What becomes of products where they are composed.
fn scores(scale: f32, sight: Sight, bias: Option<&Tensor>) -> Result<Scores> {
    let seen = match sight {
        Sight::All => Seen::All,
        Sight::Past { offset } => Seen::Past { offset, window: None },
    };
    let bias = bias.map(|bias| bias.detach().to_dtype(DType::F32)).transpose()?;
    Ok(Scores { scoring: Scoring::scaled(scale), bias, seen })
}

/// `softmax(scale · scores + bias)` over the keys that are seen: `[heads, t, n]` → the same, 0 where nothing is seen.
///
/// With `p` the result, the gradient of the scores is `scale · p · (g − Σ g·p)`; the bias gets none.
pub(crate) fn biased_softmax(
    products: &Tensor,
    scale: f32,
    sight: Sight,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    if composed::wanted(products, false) {
        return composed::softmax(products, scores(scale, sight, bias)?);
    }
    let (_, queries, keys) = products.dims3()?;
    if let Sight::Past { offset } = sight
        && offset + queries > keys
    {
        bail!("{queries} queries from position {offset} do not fit {keys} keys");
    }
    let bias = match bias {
        Some(bias) if bias.dims() != products.dims() => {
            bail!("a bias of shape {:?} does not fit scores {:?}", bias.dims(), products.dims())
        }
        Some(bias) => Some(with_floats(bias, <[f32]>::to_vec)?),
        None => None,
    };
    products.contiguous()?.apply_op1(BiasedSoftmax { scale, sight, bias })
}

struct BiasedSoftmax {
    scale: f32,
    sight: Sight,
    bias: Option<Vec<f32>>,
}

impl BiasedSoftmax {
    /// How many keys query `i` sees.
    fn seen(&self, query: usize, keys: usize) -> usize {
        match self.sight {
            Sight::All => keys,
            Sight::Past { offset } => (offset + query + 1).min(keys),
        }
    }
}

impl CustomOp1 for BiasedSoftmax {
    fn name(&self) -> &'static str {
        "biased-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, queries, keys) = layout.shape().dims3()?;
        let mut p = floats(storage, layout)?.into_owned();
        for_each_row(&mut p, keys, |i, row| {
            let (row, hidden) = row.split_at_mut(self.seen(i % queries, keys));
            hidden.fill(0.0);
            row.iter_mut().for_each(|v| *v *= self.scale);
            if let Some(bias) = &self.bias {
                row.iter_mut().zip(&bias[i * keys..]).for_each(|(v, bias)| *v += bias);
            }
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
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
                let (row, hidden) = row.split_at_mut(self.seen(i % queries, keys));
                hidden.fill(0.0);
                let p = &p[i * keys..][..row.len()];
                let dot: f32 = row.iter().zip(p).map(|(g, p)| g * p).sum();
                row.iter_mut().zip(p).for_each(|(g, p)| *g = self.scale * p * (*g - dot));
            });
        })?;
        tensor_like(dx, arg).map(Some)
    }
}
