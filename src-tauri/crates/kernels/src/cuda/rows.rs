//! Row by row work: each function starts one kernel.

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use super::{
    card::{Arg, Card, Grid, Numbers, Room, Source, numbers, numbers_of},
    precision::Precision,
};
use crate::dropout::Mask;

/// Threads of a block that works on a row.
const OF_ROW: u32 = 256;

impl Card<'_> {
    /// `w · x / sqrt(mean(x²) + eps)` of each row.
    pub(super) fn rms_norm(
        &self,
        x: Numbers,
        weight: Numbers,
        (rows, width): (usize, usize),
        eps: f32,
        to: Numbers,
    ) -> Result<()> {
        let name = format!("rms_norm_{}", to.suffix());
        let narrow = x.precision.is_narrow();
        if narrow && x.precision != to.precision {
            bail!("a norm of {:?} gives {:?} only", x.precision, x.precision);
        }
        let args = [
            x.into(),
            weight.into(),
            to.into(),
            width.into(),
            eps.into(),
            narrow.into(),
            weight.precision.into(),
        ];
        self.start(Source::Rows, &name, Grid::each(rows, OF_ROW), &args)
    }

    /// Adds to `dx` what the gradient `g` of the normed rows gives.
    pub(super) fn rms_norm_backward(
        &self,
        x: Numbers,
        weight: Numbers,
        (rows, width): (usize, usize),
        eps: f32,
        g: Numbers,
        dx: Numbers,
    ) -> Result<()> {
        let name = format!("rms_norm_backward_{}", x.suffix());
        let args =
            [x.into(), weight.into(), g.into(), dx.into(), width.into(), eps.into(), weight.precision.into()];
        self.start(Source::Rows, &name, Grid::each(rows, OF_ROW), &args)
    }

    /// `silu(gate) · up` of rows that hold both, `width` each.
    pub(super) fn gated(&self, both: Numbers, rows: usize, width: usize, to: Numbers) -> Result<()> {
        let args = [both.into(), to.into(), width.into()];
        self.start(Source::Rows, &format!("gated_{}", to.suffix()), Grid::of_rows(rows, width), &args)
    }

    /// Their gradients in their place.
    pub(super) fn gated_backward(&self, both: Numbers, g: Numbers, rows: usize, width: usize) -> Result<()> {
        let args = [both.into(), g.into(), width.into()];
        self.start(Source::Rows, &format!("gated_backward_{}", g.suffix()), Grid::of_rows(rows, width), &args)
    }

    /// Values of rows dropped and the others scaled.
    pub(super) fn drop(&self, x: Numbers, rows: usize, width: usize, mask: Mask, to: Numbers) -> Result<()> {
        self.masked("drop", x, (rows, width), mask, to)
    }

    /// The same of f32 rows, added.
    pub(super) fn add_dropped(
        &self,
        x: Numbers,
        rows: usize,
        width: usize,
        mask: Mask,
        to: Numbers,
    ) -> Result<()> {
        self.masked("add_dropped", x, (rows, width), mask, to)
    }

    fn masked(
        &self,
        name: &str,
        x: Numbers,
        (rows, width): (usize, usize),
        mask: Mask,
        to: Numbers,
    ) -> Result<()> {
        let (threshold, scale, seed) = mask.parts();
        let count = rows * width;
        let args = [
            x.into(),
            to.into(),
            Arg::Long(count as i64),
            width.into(),
            Arg::Seed(seed),
            Arg::Bits(threshold),
            scale.into(),
        ];
        self.start(Source::Rows, &format!("{name}_{}", to.suffix()), Grid::threads(count), &args)
    }

    /// f32 numbers in another precision, or a copy.
    pub(super) fn convert(&self, x: Numbers, count: usize, to: Numbers) -> Result<()> {
        let args = [x.into(), to.into(), Arg::Long(count as i64)];
        self.start(Source::Rows, &format!("convert_{}", to.suffix()), Grid::threads(count), &args)
    }

    /// f32 numbers in the precision they are multiplied in: themselves, or in room of their own.
    pub(super) fn narrowed(
        &self,
        x: Numbers,
        count: usize,
        precision: Precision,
    ) -> Result<(Numbers, Option<Room>)> {
        if !precision.is_narrow() {
            return Ok((x, None));
        }
        let room = self.room(precision, count)?;
        let to = room.numbers(self);
        self.convert(x, count, to)?;
        Ok((to, Some(room)))
    }

    /// Rows from one pitch to another, of one precision.
    pub(super) fn copy_rows(
        &self,
        (from, from_pitch): (Numbers, usize),
        (to, to_pitch): (Numbers, usize),
        rows: usize,
        width: usize,
    ) -> Result<()> {
        let count = rows * width;
        let args = [
            from.into(),
            to.into(),
            width.into(),
            from_pitch.into(),
            to_pitch.into(),
            Arg::Long(count as i64),
        ];
        self.start(Source::Rows, &format!("copy_rows_{}", to.suffix()), Grid::threads(count), &args)
    }

    /// A bias in every row, or added to what is there.
    pub(super) fn fill_rows(
        &self,
        bias: Numbers,
        rows: usize,
        width: usize,
        (to, pitch): (Numbers, usize),
        add: bool,
    ) -> Result<()> {
        let count = rows * width;
        let args = [
            bias.into(),
            to.into(),
            Arg::Long(count as i64),
            width.into(),
            pitch.into(),
            Arg::Real(f32::from(u8::from(add))),
            bias.precision.into(),
        ];
        self.start(Source::Rows, &format!("fill_rows_{}", to.suffix()), Grid::threads(count), &args)
    }

    /// `y = scale · x Wᵀ` of one f32 row, plus `add` where there is one.
    pub(super) fn times_vector(
        &self,
        x: Numbers,
        weight: Numbers,
        (out, inputs): (usize, usize),
        scale: f32,
        y: Numbers,
        add: Option<Numbers>,
    ) -> Result<()> {
        let name = format!("times_vector_{}", weight.suffix());
        let add = Arg::At(add.map_or(0, |add| add.at));
        let args = [x.into(), weight.into(), y.into(), add, inputs.into(), out.into(), scale.into()];
        self.start(
            Source::Plain,
            &name,
            Grid { blocks: (out.div_ceil(4), 1), threads: 128, shared: 0 },
            &args,
        )
    }
}

/// Rows of a table `[vocab, hidden]` as f32; ids are known to be in it.
pub(crate) fn embedding(ids: &[u32], table: &Tensor) -> Result<Tensor> {
    let (_, width) = table.dims2()?;
    let card = Card::of(table)?;
    let table = numbers(table)?;
    let uploaded = card.upload(ids)?;
    let y = card.floats(ids.len() * width)?;
    let args = [Arg::At(card.address(&uploaded)), table.into(), card.f32(&y).into(), width.into()];
    card.start(Source::Rows, &format!("embed_{}", table.suffix()), Grid::each(ids.len(), OF_ROW), &args)?;
    Ok(card.tensor(y, (ids.len(), width)))
}

/// f32 values dropped and the others scaled.
pub(crate) fn dropout(x: &CudaStorage, layout: &Layout, mask: Mask) -> Result<(CudaStorage, Shape)> {
    let card = Card(x.device());
    let count = layout.shape().elem_count();
    let width = layout.dims().last().copied().unwrap_or(1).max(1);
    let y = card.floats(count)?;
    card.drop(numbers_of(x, layout)?, count / width, width, mask, card.f32(&y))?;
    Ok((card.storage(y), layout.shape().clone()))
}

/// The norm of f32 rows with a frozen weight.
pub(crate) fn rms_norm(
    x: &CudaStorage,
    layout: &Layout,
    weight: &Tensor,
    eps: f32,
) -> Result<(CudaStorage, Shape)> {
    let card = Card(x.device());
    let width = weight.dims1()?;
    let count = layout.shape().elem_count();
    let y = card.floats(count)?;
    card.rms_norm(
        numbers_of(x, layout)?,
        numbers(&weight.contiguous()?)?,
        (count / width, width),
        eps,
        card.f32(&y),
    )?;
    Ok((card.storage(y), layout.shape().clone()))
}

/// Its gradient.
pub(crate) fn rms_norm_backward(x: &Tensor, weight: &Tensor, eps: f32, g: &Tensor) -> Result<Tensor> {
    let card = Card::of(x)?;
    let (width, count) = (weight.dims1()?, x.elem_count());
    let (x, g) = (x.contiguous()?, g.contiguous()?);
    let dx = card.0.alloc_zeros::<f32>(count)?;
    let to = card.f32(&dx);
    let weight = numbers(&weight.contiguous()?)?;
    card.rms_norm_backward(numbers(&x)?, weight, (count / width, width), eps, numbers(&g)?, to)?;
    Ok(card.tensor(dx, x.shape()))
}

/// A scalar 0.
pub(crate) fn seed(storage: &CudaStorage) -> Result<(CudaStorage, Shape)> {
    let card = Card(storage.device());
    Ok((card.storage(card.0.alloc_zeros::<f32>(1)?), Shape::from(())))
}
