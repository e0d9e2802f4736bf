//! Attention, some queries at a time: the scores of no more than [`SCORES`] pairs exist at a time, in the backward pass too, which
//! computes them again.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::{given, wide};
use crate::Scoring;

/// Pairs of a query and a key whose scores are held at a time: 64 MB.
const SCORES: usize = 1 << 24;
/// What is added to the score of a key that is not seen.
const UNSEEN: f64 = 1e30;

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen {
    All,
    /// Query `i` sees the keys `0..=offset + i`, of them the last `window`.
    Past {
        offset: usize,
        window: Option<usize>,
    },
}

/// What becomes of the products of queries and keys.
#[derive(Debug, Clone)]
pub(crate) struct Scores {
    pub scoring: Scoring,
    /// `[heads, queries, keys]`, added after the scale.
    pub bias: Option<Tensor>,
    pub seen: Seen,
}

/// A block of the matrix of scores.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    queries: usize,
    first_key: usize,
    keys: usize,
}

impl Seen {
    /// The keys that any of some queries sees.
    fn block(self, first: usize, queries: usize, keys: usize) -> Block {
        let (start, end) = match self {
            Seen::All => (0, keys),
            Seen::Past { offset, window } => {
                let start = window.map_or(0, |window| (offset + first + 1).saturating_sub(window));
                (start, (offset + first + queries).min(keys))
            }
        };
        Block { first, queries, first_key: start, keys: end - start }
    }

    /// What is added to the scores of a block, `[queries, keys]`; nothing where all is seen.
    fn mask(self, block: Block, device: &Device) -> Result<Option<Tensor>> {
        let Seen::Past { offset, window } = self else { return Ok(None) };
        // Positions are exact as f32.
        let places = |first: usize, count: usize| -> Result<Tensor> {
            Tensor::arange(first as f32, (first + count) as f32, device)?.to_dtype(DType::F32)
        };
        let queries = places(offset + block.first, block.queries)?.unsqueeze(1)?;
        let keys = places(block.first_key, block.keys)?.unsqueeze(0)?;
        let mut seen = keys.broadcast_le(&queries)?.to_dtype(DType::F32)?;
        if let Some(window) = window {
            let near = (keys + window as f64)?.broadcast_gt(&queries)?;
            seen = (seen * near.to_dtype(DType::F32)?)?;
        }
        seen.affine(UNSEEN, -UNSEEN).map(Some)
    }
}

impl Scores {
    /// Of a block of products `[heads, queries, keys]`: the probabilities.
    fn probabilities(&self, products: &Tensor, block: Block) -> Result<Tensor> {
        let mut scores = (products * f64::from(self.scoring.scale))?;
        if let Some(cap) = self.scoring.cap.map(f64::from) {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        if let Some(bias) = &self.bias {
            let own = bias.narrow(1, block.first, block.queries)?.narrow(2, block.first_key, block.keys)?;
            scores = (scores + own)?;
        }
        if let Some(mask) = self.seen.mask(block, products.device())? {
            scores = scores.broadcast_add(&mask)?;
        }
        let mut most = scores.max_keepdim(D::Minus1)?;
        let sinks = match &self.scoring.sinks {
            Some(sinks) => Some(wide(sinks)?.reshape(((), 1, 1))?),
            None => None,
        };
        if let Some(sinks) = &sinks {
            most = most.broadcast_maximum(sinks)?;
        }
        let shares = scores.broadcast_sub(&most)?.exp()?;
        let mut total = shares.sum_keepdim(D::Minus1)?;
        if let Some(sinks) = &sinks {
            total = (total + most.neg()?.broadcast_add(sinks)?.exp()?)?;
        }
        shares.broadcast_div(&total)
    }

    /// The gradient of the products from that of the probabilities `p`.
    fn backward(&self, products: &Tensor, p: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let mean = (gradient * p)?.sum_keepdim(D::Minus1)?;
        let of_scores = (gradient.broadcast_sub(&mean)? * p)?;
        let scale = f64::from(self.scoring.scale);
        match self.scoring.cap.map(f64::from) {
            None => of_scores * scale,
            Some(cap) => {
                let t = (products * (scale / cap))?.tanh()?;
                of_scores * t.sqr()?.affine(-scale, scale)?
            }
        }
    }

    fn check(&self, heads: usize, queries: usize, keys: usize) -> Result<()> {
        if let Seen::Past { offset, window } = self.seen
            && (offset + queries > keys || window == Some(0))
        {
            bail!("{queries} queries from position {offset} do not fit {keys} keys");
        }
        match &self.bias {
            Some(bias) if bias.dims() != [heads, queries, keys] => {
                bail!("a bias of shape {:?} does not fit {queries} queries and {keys} keys", bias.dims())
            }
            _ => {}
        }
        match &self.scoring.sinks {
            Some(sinks) if sinks.dims() != [heads] => {
                bail!("{heads} heads were given sinks of shape {:?}", sinks.dims())
            }
            _ => Ok(()),
        }
    }
}

/// Products of queries and keys as probabilities, `[heads, queries, keys]`, all at once.
pub(crate) fn softmax(products: &Tensor, scores: Scores) -> Result<Tensor> {
    let (heads, queries, keys) = products.dims3()?;
    scores.check(heads, queries, keys)?;
    let block = Block { first: 0, queries, first_key: 0, keys };
    let value = scores.probabilities(&wide(products)?, block)?.to_dtype(products.dtype())?;
    given("softmax", &[products], value, move |operands, result, gradient| {
        let dx = scores.backward(&wide(operands[0])?, &wide(result)?, &wide(gradient)?)?;
        Ok(vec![Some(dx.to_dtype(operands[0].dtype())?)])
    })
}

/// Queries `[heads, t, dim]` over keys and values `[key heads, n, dim]` → `[heads, t, dim]`, in the dtype of the queries. The
/// queries of heads that share keys lie one after the other.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, scores: Scores) -> Result<Tensor> {
    let ((heads, t, _), (key_heads, n, _)) = (q.dims3()?, k.dims3()?);
    if key_heads == 0 || !heads.is_multiple_of(key_heads) || v.dim(1)? != n {
        bail!("{:?} cannot attend to keys {:?} and values {:?}", q.dims(), k.dims(), v.dims());
    }
    scores.check(heads, t, n)?;
    let sides = Sides { q: wide(q)?, k: wide(k)?, v: wide(v)? };
    let parts = sides.blocks(&scores)?.into_iter().map(|block| {
        let Part { p, v, .. } = sides.part(&scores, block)?;
        sides.by_head(&p.matmul(&v)?, block)
    });
    let value = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?.to_dtype(q.dtype())?;
    given("attention", &[q, k, v], value, move |operands, _, gradient| {
        let sides = Sides { q: wide(operands[0])?, k: wide(operands[1])?, v: wide(operands[2])? };
        let gradients = sides.backward(&scores, &wide(gradient)?)?;
        let typed =
            gradients.into_iter().zip(operands).map(|(g, operand)| g.to_dtype(operand.dtype()).map(Some));
        typed.collect()
    })
}

/// What attention is between, in f32.
struct Sides {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

/// What a block is computed from, by key heads: the queries `[key heads, group · queries, dim]`, their keys and values, products and
/// probabilities.
struct Part {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    products: Tensor,
    p: Tensor,
}

impl Sides {
    /// Blocks of so many queries that their scores may be held.
    fn blocks(&self, scores: &Scores) -> Result<Vec<Block>> {
        let ((heads, t, _), n) = (self.q.dims3()?, self.k.dim(1)?);
        let most = (SCORES / (heads * n).max(1)).clamp(1, t.max(1));
        let starts = (0..t).step_by(most);
        Ok(starts.map(|first| scores.seen.block(first, most.min(t - first), n)).collect())
    }

    /// Rows of all heads by key heads: `[heads, t, dim]` → `[key heads, group · queries, dim]`.
    fn grouped(&self, x: &Tensor, block: Block) -> Result<Tensor> {
        let (key_heads, dim) = (self.k.dim(0)?, x.dim(2)?);
        x.narrow(1, block.first, block.queries)?.contiguous()?.reshape((key_heads, (), dim))
    }

    /// The other way.
    fn by_head(&self, x: &Tensor, block: Block) -> Result<Tensor> {
        x.reshape((self.q.dim(0)?, block.queries, ()))
    }

    fn part(&self, scores: &Scores, block: Block) -> Result<Part> {
        let seen = |x: &Tensor| x.narrow(1, block.first_key, block.keys)?.contiguous();
        let (q, k, v) = (self.grouped(&self.q, block)?, seen(&self.k)?, seen(&self.v)?);
        let products = q.matmul(&k.transpose(1, 2)?)?;
        let by_head = self.by_head(&products, block)?;
        let p = scores.probabilities(&by_head, block)?.reshape(products.shape())?;
        Ok(Part { q, k, v, products, p })
    }

    fn backward(&self, scores: &Scores, gradient: &Tensor) -> Result<[Tensor; 3]> {
        let n = self.k.dim(1)?;
        let mut dq = Vec::new();
        let (mut dk, mut dv) = (self.k.zeros_like()?, self.v.zeros_like()?);
        for block in self.blocks(scores)? {
            let Part { q, k, v, products, p } = self.part(scores, block)?;
            let g = self.grouped(gradient, block)?;
            let padded = |x: Tensor| x.pad_with_zeros(1, block.first_key, n - block.first_key - block.keys);
            dv = (dv + padded(p.transpose(1, 2)?.matmul(&g)?)?)?;
            let dp = g.matmul(&v.transpose(1, 2)?)?;
            let by_head = |x: &Tensor| self.by_head(x, block);
            let ds = scores.backward(&by_head(&products)?, &by_head(&p)?, &by_head(&dp)?)?;
            let ds = ds.reshape(products.shape())?;
            dq.push(self.by_head(&ds.matmul(&k)?, block)?);
            dk = (dk + padded(ds.transpose(1, 2)?.matmul(&q)?)?)?;
        }
        Ok([Tensor::cat(&dq, 1)?, dk, dv])
    }
}

/// Of the scores of tokens with the rows of a table, `[heads, t, rows]`, those of pairs of tokens: `out[h, i, j]` is at row
/// `rows[i, j]` of token `i`, or of token `j` where `by_key`.
pub(crate) fn pick(scores: &Tensor, rows: impl Fn(usize, usize) -> usize, by_key: bool) -> Result<Tensor> {
    let (heads, t, _) = scores.dims3()?;
    let place = |i: usize, j: usize| if by_key { rows(j, i) } else { rows(i, j) };
    let places: Vec<u32> = (0..t * t).map(|at| place(at / t, at % t) as u32).collect();
    let places = Tensor::from_vec(places, (1, t, t), scores.device())?;
    let picked = scores.contiguous()?.gather(&places.expand((heads, t, t))?.contiguous()?, 2)?;
    if by_key { picked.transpose(1, 2)?.contiguous() } else { Ok(picked) }
}
