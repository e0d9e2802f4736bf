//! Output projection and cross entropy together on the card, some rows at a time.

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, backend::BackendStorage};

use super::{
    card::{Arg, Card, Grid, Matrix, Size, Source, numbers, numbers_of},
    precision::Precision,
};

/// Logits held at a time: 128 MB.
const LOGITS: usize = 1 << 25;
/// Rows that a product is worth starting for.
const LEAST_ROWS: usize = 64;

/// Gradients of logits are at most 1 and mostly far smaller than f16 tells from zero: they are multiplied by this.
const F16_FACTOR: f32 = 16384.0;

/// What is computed of the rows that count.
pub(crate) struct HeadOnCard<'a> {
    pub head: &'a Tensor,
    /// Row and target of each.
    pub rows: &'a [(usize, usize)],
    /// Whether the gradient of hidden states is wanted.
    pub gradient: bool,
    /// Whether the losses are given one by one, with the other sign, instead of their sum.
    pub each: bool,
}

impl HeadOnCard<'_> {
    /// The sum of losses, or the log-probability of each of all rows; and the gradient of the sum with regard to the hidden states.
    pub fn compute(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape, Option<Tensor>)> {
        let card = Card(storage.device());
        let hidden = numbers_of(storage, layout)?;
        let (tokens, width) = layout.shape().dims2()?;
        let (vocab, _) = self.head.dims2()?;
        let head = numbers(self.head)?;
        let precision = head.precision;
        let factor = if precision == Precision::F16 { F16_FACTOR } else { 1.0 };
        let count = self.rows.len();
        let places: Vec<u32> = self.rows.iter().map(|row| row.0 as u32).collect();
        let targets: Vec<u32> = self.rows.iter().map(|row| row.1 as u32).collect();
        let (places, targets) = (card.upload(&places)?, card.upload(&targets)?);
        let (places, targets) = (card.address(&places), card.address(&targets));
        let losses = card.0.alloc_zeros::<f32>(count.max(1))?;
        let dx = self.gradient.then(|| card.0.alloc_zeros::<f32>(tokens * width)).transpose()?;
        let most = (LOGITS / vocab).max(LEAST_ROWS).min(count.max(1));
        let logits = card.room(Precision::F32, most * vocab)?;
        let slopes = if self.gradient { Some(card.room(precision, most * vocab)?) } else { None };
        let (chosen, part) = (card.room(precision, most * width)?, card.room(Precision::F32, most * width)?);
        let (chosen, part, logits) = (chosen.numbers(&card), part.numbers(&card), logits.numbers(&card));
        for first in (0..count).step_by(most) {
            let rows = most.min(count - first);
            let (own, of) = (Arg::At(places + 4 * first as u64), Arg::At(targets + 4 * first as u64));
            let grid = Grid::each(rows, 256);
            let args = [hidden.into(), own, chosen.into(), width.into()];
            card.start(Source::Train, &format!("gather_{}", precision.suffix()), grid, &args)?;
            let size = Size { m: rows, n: vocab, k: width };
            let factors = (Matrix::rows(chosen, width), Matrix::columns(head, width));
            card.multiply(size, 1.0, factors, 0.0, (logits, vocab))?;
            let loss = card.f32(&losses).from(first);
            let to = slopes.as_ref().map(|slopes| slopes.numbers(&card));
            let args = [
                logits.into(),
                of,
                loss.into(),
                Arg::At(to.map_or(0, |to| to.at)),
                vocab.into(),
                factor.into(),
            ];
            card.start(
                Source::Train,
                &format!("cross_entropy_{}", precision.suffix()),
                Grid::each(rows, 1024),
                &args,
            )?;
            if let (Some(to), Some(dx)) = (to, &dx) {
                let size = Size { m: rows, n: width, k: vocab };
                let factors = (Matrix::rows(to, vocab), Matrix::rows(head, width));
                card.multiply(size, 1.0 / factor, factors, 0.0, (part, width))?;
                let args = [part.into(), own, card.f32(dx).into(), width.into()];
                card.start(Source::Train, "scatter", grid, &args)?;
            }
        }
        let gradient = dx.map(|dx| card.tensor(dx, (tokens, width)));
        if self.each {
            // Into the rows they are of, with the other sign.
            let all = card.0.alloc_zeros::<f32>(tokens)?;
            let args = [card.f32(&losses).into(), Arg::At(places), card.f32(&all).into(), 1usize.into()];
            card.start(Source::Train, "scatter", Grid::each(count, 32), &args)?;
            card.scale(card.f32(&all), -1.0, tokens)?;
            return Ok((card.storage(all), Shape::from(tokens), gradient));
        }
        let sum = card.floats(1)?;
        let args = [card.f32(&losses).into(), card.f32(&sum).into(), Arg::Long(count as i64), false.into()];
        card.start(Source::Train, "sum_all", Grid::each(1, 1024), &args)?;
        Ok((card.storage(sum), Shape::from(()), gradient))
    }
}
