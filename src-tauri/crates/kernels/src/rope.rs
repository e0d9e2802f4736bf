//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), halves rotated as in the published Llama weights.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::slices::{floats, for_each_row, store, tensor_like, with_floats};

/// Cosine and sine of `position · inverse frequency`, for positions from 0.
#[derive(Debug)]
pub struct RopeTable {
    /// Half of the head's width.
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// A table for positions below `positions`; one inverse frequency for each pair of a head's dimensions.
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        let angles = || (0..positions).flat_map(|p| inverse_frequencies.iter().map(move |f| p as f32 * f));
        RopeTable {
            half: inverse_frequencies.len(),
            cos: angles().map(f32::cos).collect(),
            sin: angles().map(f32::sin).collect(),
        }
    }

    /// Cosines and sines of a position, which it must cover.
    pub(crate) fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let places = position as usize * self.half..(position as usize + 1) * self.half;
        (&self.cos[places.clone()], &self.sin[places])
    }

    /// Fails unless it is for heads of this width and covers the positions of this many tokens.
    pub(crate) fn check(&self, width: usize, tokens: usize, positions: &[u32]) -> Result<()> {
        if tokens != positions.len() || self.half == 0 || !width.is_multiple_of(2 * self.half) {
            let (head, count) = (2 * self.half, positions.len());
            bail!(
                "rope for heads of {head} was given {tokens} tokens of width {width} and {count} positions"
            );
        }
        match positions.iter().find(|&&p| p as usize >= self.positions()) {
            Some(position) => {
                bail!("position {position} is beyond the {} that the table covers", self.positions())
            }
            None => Ok(()),
        }
    }

    /// How many positions it covers.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// Rotates each head of `[tokens, heads · head_dim]` by its token's position; the gradient is rotated back.
pub fn rope(x: &Tensor, table: &Arc<RopeTable>, positions: &Arc<Vec<u32>>) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    table.check(width, tokens, positions)?;
    x.contiguous()?.apply_op1(Rope { table: table.clone(), positions: positions.clone() })
}

struct Rope {
    table: Arc<RopeTable>,
    positions: Arc<Vec<u32>>,
}

impl Rope {
    /// Rotates by `direction` (1 or −1) times the angle.
    fn rotate(&self, values: &mut [f32], direction: f32) {
        let half = self.table.half;
        for_each_row(values, values.len().checked_div(self.positions.len()).unwrap_or(0), |token, row| {
            let (cos, sin) = self.table.at(self.positions[token]);
            for head in row.chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    let s = s * direction;
                    (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                }
            }
        });
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(storage, layout)?.into_owned();
        self.rotate(&mut y, 1.0);
        Ok((store(y, storage.dtype()), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        self.rotate(&mut dx, -1.0);
        tensor_like(dx, arg).map(Some)
    }
}
