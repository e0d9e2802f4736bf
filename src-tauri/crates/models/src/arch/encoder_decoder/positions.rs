//! How a stack knows the order of its tokens.

use candle_core::{Device, Result, Tensor, bail};

use crate::Sequences;

/// Positions of the tokens of a stack.
pub(in crate::arch) enum Positions {
    /// A bias on the scores of attention over the own sequence, by distance: T5's relative attention.
    Relative(Buckets),
    /// An embedding a position; row `offset` of the table is that of position 0.
    Learned {
        /// `[offset + positions, hidden]`.
        table: Tensor,
        /// Rows before that of position 0.
        offset: usize,
    },
}

/// A bias for each bucket of distances and each head (Raffel et al. 2020, arXiv:1910.10683, section 2.1).
pub(in crate::arch) struct Buckets {
    /// `[buckets, heads]`, row by row.
    pub biases: Vec<f32>,
    /// Heads.
    pub heads: usize,
    /// Distances from here on share the last bucket.
    pub max_distance: usize,
    /// Whether later tokens are seen too: then half of the buckets are theirs.
    pub both_ways: bool,
}

impl Positions {
    /// Adds what belongs to the positions to embeddings `[tokens, hidden]`.
    pub(super) fn add(&self, hidden: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let Positions::Learned { table, offset } = self else { return Ok(hidden.clone()) };
        let positions = sequences.positions();
        let rows: Vec<u32> = positions.iter().map(|&position| position + *offset as u32).collect();
        let most = table.dim(0)?;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= most) {
            bail!("position {} is beyond the {} that the model has", *row as usize - offset, most - offset);
        }
        hidden + kernels::embedding(&Tensor::new(rows, hidden.device())?, table)?
    }

    /// The bias `[heads, queries, keys]` of queries that stand at `offset` among the keys, where these are.
    pub(super) fn bias(&self, queries: usize, keys: &Tensor, offset: usize) -> Result<Option<Tensor>> {
        match self {
            Positions::Relative(buckets) => {
                buckets.bias(queries, keys.dim(1)?, offset, keys.device()).map(Some)
            }
            Positions::Learned { .. } => Ok(None),
        }
    }

    /// The bias of whole sequences over themselves.
    pub(super) fn bias_of<'a>(
        &'a self,
        device: &'a Device,
    ) -> Option<Box<dyn Fn(usize, usize) -> Result<Tensor> + 'a>> {
        match self {
            Positions::Relative(buckets) => {
                Some(Box::new(|queries, keys| buckets.bias(queries, keys, 0, device)))
            }
            Positions::Learned { .. } => None,
        }
    }
}

impl Buckets {
    fn bias(&self, queries: usize, keys: usize, offset: usize, device: &Device) -> Result<Tensor> {
        // The distance of key k from query q at place offset + q, counted from the least there is.
        let least = offset + queries;
        let by_distance: Vec<usize> =
            (0..least + keys).map(|d| self.bucket(d as i64 - least as i64) * self.heads).collect();
        let mut values = Vec::with_capacity(self.heads * queries * keys);
        for head in 0..self.heads {
            for query in 0..queries {
                let first = least - offset - query;
                values.extend(by_distance[first..first + keys].iter().map(|&at| self.biases[at + head]));
            }
        }
        Tensor::from_vec(values, (self.heads, queries, keys), device)
    }

    /// The bucket of a key that stands `distance` after its query: the near ones have one each, farther ones share theirs by
    /// the logarithm of the distance.
    fn bucket(&self, distance: i64) -> usize {
        let mut buckets = self.biases.len() / self.heads.max(1);
        let mut first = 0;
        let far = if self.both_ways {
            buckets /= 2;
            if distance > 0 {
                first = buckets;
            }
            distance.unsigned_abs() as usize
        } else {
            distance.min(0).unsigned_abs() as usize
        };
        let exact = buckets / 2;
        if far < exact {
            return first + far;
        }
        // In f32, as the reference computes where one bucket ends and the next begins.
        let share = (far as f32 / exact as f32).ln() / (self.max_distance as f64 / exact as f64).ln() as f32;
        let shared = exact + (share * (buckets - exact) as f32) as usize;
        first + shared.min(buckets - 1)
    }
}
