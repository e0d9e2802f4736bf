//! Causal attention with grouped key-value heads (Ainslie et al. 2023, arXiv:2305.13245) over sequences laid end to end.

use candle_core::{DType, Result, Tensor, bail};

use crate::{
    composed::{self, Scores, Seen},
    softmax::{Mask, Scoring, masked_softmax},
};

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key-value heads; query head `i` uses key-value head `i / (queries / keys)`.
    pub keys: usize,
    /// Width of one head.
    pub dim: usize,
    /// Sliding window: a token sees itself and the `window − 1` before it.
    pub window: Option<usize>,
}

/// An attention layer: its heads, and what becomes of their scores.
#[derive(Debug, Clone)]
pub struct Attention {
    /// The heads.
    pub heads: Heads,
    /// From a product of query and key to a probability.
    pub scoring: Scoring,
}

impl From<Heads> for Attention {
    /// Scores divided by the root of a head's width.
    fn from(heads: Heads) -> Self {
        Attention { heads, scoring: Scoring::scaled((heads.dim as f32).sqrt().recip()) }
    }
}

/// Attention within each of the sequences: queries `[tokens, queries · dim]`, keys and values `[tokens, keys · dim]`
/// → `[tokens, queries · dim]`. Sequences do not see each other, and no padding is computed.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: &[usize],
    layer: impl Into<Attention>,
) -> Result<Tensor> {
    let (tokens, _) = q.dims2()?;
    let layer = layer.into();
    let heads = layer.heads;
    if lengths.iter().sum::<usize>() != tokens {
        bail!("the sequences' lengths do not sum to the {tokens} tokens");
    }
    let mut start = 0;
    let mut outputs = Vec::with_capacity(lengths.len());
    for &length in lengths.iter().filter(|&&l| l > 0) {
        let part = |x: &Tensor, count| split_heads(&x.narrow(0, start, length)?, count, heads.dim);
        let (q, k, v) = (part(q, heads.queries)?, part(k, heads.keys)?, part(v, heads.keys)?);
        outputs.push(attend(&q, &k, &v, 0, &layer)?);
        start += length;
    }
    match outputs.as_slice() {
        [one] => Ok(one.clone()),
        [] => Ok(q.clone()),
        many => Tensor::cat(many, 0),
    }
}

/// Attention of the last tokens of one sequence over all of it: queries `[tokens, queries · dim]`, keys and values
/// `[keys, cached + tokens, dim]` → `[tokens, queries · dim]`.
pub fn attention_cached(q: &Tensor, k: &Tensor, v: &Tensor, layer: impl Into<Attention>) -> Result<Tensor> {
    let layer = layer.into();
    let (tokens, all) = (q.dim(0)?, k.dim(1)?);
    let Some(offset) = all.checked_sub(tokens) else { bail!("{tokens} queries have only {all} keys") };
    attend(&split_heads(q, layer.heads.queries, layer.heads.dim)?, k, v, offset, &layer)
}

/// `[tokens, heads · dim]` → contiguous `[heads, tokens, dim]`.
fn split_heads(x: &Tensor, heads: usize, dim: usize) -> Result<Tensor> {
    x.reshape((x.dim(0)?, heads, dim))?.transpose(0, 1)?.contiguous()
}

/// One sequence: queries `[queries, t, dim]`, keys and values `[keys, n, dim]` → `[t, queries · dim]`. The queries of
/// one group lie one after the other, so they are multiplied with their keys together and no key is repeated.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, offset: usize, layer: &Attention) -> Result<Tensor> {
    let heads = layer.heads;
    let (t, n) = (q.dim(1)?, k.dim(1)?);
    let group = heads.queries / heads.keys;
    let dtype = q.dtype();
    let wide = |x: &Tensor| if dtype == DType::F32 { Ok(x.clone()) } else { x.to_dtype(DType::F32) };
    let (q, k, v) = (wide(q)?, wide(k)?, wide(v)?);
    if composed::wanted(&q, false) {
        let seen = Seen::Past { offset, window: heads.window };
        let scores = Scores { scoring: layer.scoring.clone(), bias: None, seen };
        let out = composed::attend(&q, &k, &v, scores)?.transpose(0, 1)?.contiguous()?;
        return out.reshape((t, heads.queries * heads.dim))?.to_dtype(dtype);
    }
    let scores = q.reshape((heads.keys, group * t, heads.dim))?.matmul(&k.t()?)?;
    let mask = Mask { offset, window: heads.window };
    let p = masked_softmax(&scores.reshape((heads.queries, t, n))?, &layer.scoring, mask)?;
    let out = p.reshape((heads.keys, group * t, n))?.matmul(&v)?;
    let out = out.reshape((heads.queries, t, heads.dim))?.transpose(0, 1)?.contiguous()?;
    let out = out.reshape((t, heads.queries * heads.dim))?;
    if dtype == DType::F32 { Ok(out) } else { out.to_dtype(dtype) }
}
