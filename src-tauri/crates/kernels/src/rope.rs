//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

use std::sync::{Arc, OnceLock};

use candle_core::{
    CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use crate::{
    composed,
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

/// What of a head is rotated, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeForm {
    /// Width of a head; dimensions beyond twice the number of frequencies stay as they are.
    pub head: usize,
    /// Whether neighbours are pairs, as in GPT-J, and not the two halves of what is rotated.
    pub interleaved: bool,
    /// What rotated dimensions are multiplied by: YaRN and LongRoPE (Peng et al. 2023, arXiv:2309.00071).
    pub factor: f32,
}

/// Cosine and sine of `position · inverse frequency`, for positions from 0.
#[derive(Debug)]
pub struct RopeTable {
    /// Half of the width that is rotated.
    half: usize,
    form: RopeForm,
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// Cosines, then sines, on the device that it was asked for on first.
    on_device: OnceLock<Tensor>,
}

impl RopeTable {
    /// A table for positions below `positions`; one inverse frequency for each pair of a head's dimensions.
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        let head = 2 * inverse_frequencies.len();
        let mut table = Self::empty(inverse_frequencies, RopeForm { head, interleaved: false, factor: 1.0 });
        table.extend(inverse_frequencies, 0..positions);
        table
    }

    /// A table that covers no position yet.
    pub fn empty(inverse_frequencies: &[f32], form: RopeForm) -> Self {
        RopeTable {
            half: inverse_frequencies.len(),
            form,
            cos: Vec::new(),
            sin: Vec::new(),
            on_device: OnceLock::new(),
        }
    }

    /// Adds the angles of `range` as the next positions of the table, which may differ from those in `range`.
    pub fn extend(&mut self, inverse_frequencies: &[f32], range: std::ops::Range<usize>) {
        let factor = self.form.factor;
        let angles = || range.clone().flat_map(|p| inverse_frequencies.iter().map(move |f| p as f32 * f));
        self.cos.extend(angles().map(|angle| angle.cos() * factor));
        self.sin.extend(angles().map(|angle| angle.sin() * factor));
    }

    /// All cosines, then all sines, on a device: f32 `[2, positions, half]`.
    pub(crate) fn on(&self, device: &Device) -> Result<Tensor> {
        if let Some(made) = self.on_device.get().filter(|made| made.device().same_device(device)) {
            return Ok(made.clone());
        }
        let both = [self.cos.as_slice(), self.sin.as_slice()].concat();
        let made = Tensor::from_vec(both, (2, self.positions(), self.half), device)?;
        // Where there is a copy on another device, that one stays.
        let _ = self.on_device.set(made.clone());
        Ok(made)
    }

    /// The same on a card.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_card(&self, card: &candle_core::CudaDevice) -> Result<Tensor> {
        self.on(&Device::Cuda(card.clone()))
    }

    /// Half of the width that is rotated.
    pub(crate) fn half(&self) -> usize {
        self.half
    }

    /// What of a head is rotated, and how.
    pub(crate) fn form(&self) -> RopeForm {
        self.form
    }

    /// Cosines and sines of a position, which it must cover.
    pub(crate) fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let places = position as usize * self.half..(position as usize + 1) * self.half;
        (&self.cos[places.clone()], &self.sin[places])
    }

    /// Fails unless it rotates whole heads of this width by halves, and covers the positions of this many tokens.
    pub(crate) fn check(&self, width: usize, tokens: usize, positions: &[u32]) -> Result<()> {
        if self.form.head != 2 * self.half || self.form.interleaved {
            bail!("only rope that rotates the two halves of a head is computed here, not {:?}", self.form);
        }
        self.fits(width, tokens, positions)
    }

    /// Fails unless it is for heads of this width and covers the positions of this many tokens.
    fn fits(&self, width: usize, tokens: usize, positions: &[u32]) -> Result<()> {
        let head = self.form.head;
        if tokens != positions.len() || self.half == 0 || head < 2 * self.half || !width.is_multiple_of(head)
        {
            let count = positions.len();
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
    table.fits(width, tokens, positions)?;
    if composed::wanted(x, false) {
        return composed::rope(x, table, positions);
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
        let (half, form) = (self.table.half, self.table.form);
        for_each_row(values, values.len().checked_div(self.positions.len()).unwrap_or(0), |token, row| {
            let (cos, sin) = self.table.at(self.positions[token]);
            for head in row.chunks_exact_mut(form.head) {
                let rotated = &mut head[..2 * half];
                if form.interleaved {
                    for ((pair, c), s) in rotated.chunks_exact_mut(2).zip(cos).zip(sin) {
                        (pair[0], pair[1]) = turned(pair[0], pair[1], *c, s * direction);
                    }
                } else {
                    let (first, second) = rotated.split_at_mut(half);
                    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                        (*a, *b) = turned(*a, *b, *c, s * direction);
                    }
                }
            }
        });
    }
}

/// A pair of dimensions turned by the angle of this cosine and sine.
fn turned(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    (a * cos - b * sin, b * cos + a * sin)
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
