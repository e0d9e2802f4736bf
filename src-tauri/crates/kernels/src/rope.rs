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

    /// How many positions it covers.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// Rotates each head of `[tokens, heads · head_dim]` by its token's position; the gradient is rotated back.
pub fn rope(x: &Tensor, table: &Arc<RopeTable>, positions: &Arc<Vec<u32>>) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    if tokens != positions.len() || table.half == 0 || width % (2 * table.half) != 0 {
        bail!(
            "rope for heads of {} was given {:?} and {} positions",
            2 * table.half,
            x.dims(),
            positions.len()
        );
    }
    if let Some(position) = positions.iter().find(|&&p| p as usize >= table.positions()) {
        bail!("position {position} is beyond the {} that the table covers", table.positions());
    }
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
            let at = self.positions[token] as usize * half;
            let (cos, sin) = (&self.table.cos[at..at + half], &self.table.sin[at..at + half]);
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
