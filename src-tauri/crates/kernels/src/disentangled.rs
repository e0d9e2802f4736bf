//! Disentangled attention (He et al. 2020, arXiv:2006.03654): besides their contents, the distance of two tokens has a say
//! in how much one attends to the other, by the query's content and by the key's.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use crate::{
    composed,
    pair_attention::{PairAttention, Sight, biased_softmax},
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

/// Which row of the table of relative positions stands for a distance between two tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distances {
    /// The row for distances 0, 1, 2, …; the last one stands for all beyond.
    rows: Vec<i64>,
    span: i64,
}

impl Distances {
    /// Distances below half of `buckets` have a row each; those up to `longest` share the other half in steps that grow by
    /// a factor. Without buckets every distance up to `longest` has its own row. Both directions: `2 · span` rows.
    pub fn new(buckets: Option<usize>, longest: usize) -> Self {
        let longest = longest.max(2);
        let Some(buckets) = buckets else {
            let span = longest as i64;
            return Self { rows: (0..=span).collect(), span };
        };
        let (middle, last) = ((buckets / 2).max(1) as f64, (longest - 1) as f64);
        let bucket = |distance: usize| {
            let far = distance as f64;
            if far <= middle {
                distance as i64
            } else {
                // As the published models were trained: in f32.
                let part = (far as f32 / middle as f32).ln() / ((last / middle) as f32).ln();
                (part * (middle as f32 - 1.0)).ceil() as i64 + middle as i64
            }
        };
        Self { rows: (0..=longest).map(bucket).collect(), span: buckets as i64 }
    }

    /// Rows of the table.
    pub fn table_rows(&self) -> usize {
        2 * self.span as usize
    }

    /// The row for query `i` and key `j`.
    fn row(&self, i: usize, j: usize) -> usize {
        let far = i.abs_diff(j);
        let row = self.rows.get(far).or(self.rows.last()).copied().unwrap_or(0);
        let signed = if i < j { -row } else { row };
        (signed + self.span).clamp(0, 2 * self.span - 1) as usize
    }
}

/// The attention of one layer, with what it knows of positions.
#[derive(Debug, Clone)]
pub struct Disentangled {
    /// Heads.
    pub heads: usize,
    /// From distance to row.
    pub distances: Arc<Distances>,
    /// The table as keys, `[rows, heads · dim]`: how much a query's content wants each distance. Absent where the model
    /// was trained without.
    pub keys: Option<Tensor>,
    /// The table as queries, `[rows, heads · dim]`: how much each distance wants a key's content.
    pub queries: Option<Tensor>,
}

impl Disentangled {
    /// Attention within each of the sequences, every token seeing all of its own: queries, keys and values
    /// `[tokens, heads · dim]` → `[tokens, heads · dim]`.
    ///
    /// The score of query `i` and key `j` at row `d` of the table is `(qᵢ·kⱼ + qᵢ·K_d + kⱼ·Q_d) / √(n · dim)`, with `n` the
    /// number of terms there are.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let (tokens, width) = q.dims2()?;
        if lengths.iter().sum::<usize>() != tokens {
            bail!("the sequences' lengths do not sum to the {tokens} tokens");
        }
        let terms = 1 + usize::from(self.keys.is_some()) + usize::from(self.queries.is_some());
        let scale = ((terms * width) as f32 / self.heads as f32).sqrt().recip();
        let pairs = PairAttention { heads: self.heads, scale, sight: Sight::All };
        let split = |x: &Tensor| pairs.split(&x.to_dtype(DType::F32)?);
        let table = |x: &Option<Tensor>| -> Result<Option<Tensor>> {
            let Some(x) = x else { return Ok(None) };
            if x.dim(0)? != self.distances.table_rows() {
                bail!("{:?} is no table of {} distances", x.dims(), self.distances.table_rows());
            }
            Ok(Some(split(x)?.t()?.contiguous()?))
        };
        let (keys, queries) = (table(&self.keys)?, table(&self.queries)?);
        let mut at = 0;
        let mut outputs = Vec::with_capacity(lengths.len());
        for &length in lengths.iter().filter(|&&length| length > 0) {
            let part = |x: &Tensor| split(&x.narrow(0, at, length)?);
            let (q, k, v) = (part(q)?, part(k)?, part(v)?);
            let mut scores = q.matmul(&k.t()?)?;
            if let Some(keys) = &keys {
                scores = (scores + self.pick(q.matmul(keys)?, By::Query)?)?;
            }
            if let Some(queries) = &queries {
                scores = (scores + self.pick(k.matmul(queries)?, By::Key)?)?;
            }
            let mixed = biased_softmax(&scores, scale, Sight::All, None)?.matmul(&v)?;
            outputs.push(mixed.transpose(0, 1)?.contiguous()?.reshape((length, width))?);
            at += length;
        }
        match outputs.as_slice() {
            [] => Ok(q.clone()),
            some => Tensor::cat(some, 0)?.to_dtype(q.dtype()),
        }
    }

    fn pick(&self, scores: Tensor, by: By) -> Result<Tensor> {
        if composed::wanted(&scores, false) {
            return composed::pick(&scores, |i, j| self.distances.row(i, j), by == By::Key);
        }
        scores.apply_op1(Pick { distances: Arc::clone(&self.distances), by })
    }
}

/// Whose scores are picked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Query,
    Key,
}

/// From the scores of each token with each row of the table, `[heads, t, rows]`, those of each pair of tokens,
/// `[heads, t, t]`: `out[h, i, j] = scores[h, i or j, row(i, j)]`. The gradient goes back to where a score came from.
struct Pick {
    distances: Arc<Distances>,
    by: By,
}

impl Pick {
    /// Where the score of query `i` and key `j` is among those of a head.
    fn place(&self, i: usize, j: usize) -> usize {
        let token = if self.by == By::Query { i } else { j };
        token * self.distances.table_rows() + self.distances.row(i, j)
    }
}

impl CustomOp1 for Pick {
    fn name(&self) -> &'static str {
        "pick-relative"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (heads, t, rows) = layout.shape().dims3()?;
        let scores = floats(storage, layout)?;
        let mut picked = vec![0f32; heads * t * t];
        for_each_row(&mut picked, t, |at, row| {
            let (head, i) = (at / t, at % t);
            let scores = &scores[head * t * rows..(head + 1) * t * rows];
            row.iter_mut().enumerate().for_each(|(j, v)| *v = scores[self.place(i, j)]);
        });
        Ok((store(picked, storage.dtype()), Shape::from((heads, t, t))))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, t, rows) = arg.dims3()?;
        let mut dx = vec![0f32; arg.elem_count()];
        with_floats(grad, |g| {
            for_each_row(&mut dx, t * rows, |head, dx| {
                let g = &g[head * t * t..(head + 1) * t * t];
                for (at, g) in g.iter().enumerate() {
                    dx[self.place(at / t, at % t)] += g;
                }
            });
        })?;
        tensor_like(dx, arg).map(Some)
    }
}
