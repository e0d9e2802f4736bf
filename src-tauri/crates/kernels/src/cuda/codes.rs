//! Products of one row with a weight in few bits, which is read as its codes: nothing is widened on the way.

use candle_core::Result;

use super::card::{Arg, Card, Grid, Numbers, Source};
use crate::quant::{Codes, Quantised};

/// Threads of a block, and rows of a weight that each of its warps has.
const THREADS: usize = 64;
const ROWS: usize = 4;
/// Values that are read together.
const TOGETHER: usize = 8;

impl Card<'_> {
    /// `y = x Wᵀ` of one f32 row, plus `add` where there is one. Says no where the rows of the weight do not allow that it is read as it
    /// is kept.
    pub(super) fn times_codes(
        &self,
        x: Numbers,
        weight: &Quantised,
        y: Numbers,
        add: Option<Numbers>,
    ) -> Result<bool> {
        let (out, inputs) = weight.shape();
        if !inputs.is_multiple_of(TOGETHER) || !x.at.is_multiple_of(16) {
            return Ok(false);
        }
        let parts = self.parts(weight)?;
        let grid =
            Grid { blocks: (out.div_ceil(THREADS / 32 * ROWS), 1), threads: THREADS as u32, shared: 0 };
        let add = Arg::At(add.map_or(0, |add| add.at));
        let end = [y.into(), add, inputs.into(), out.into(), Arg::Real(1.0)];
        let (packed, scales) = (Arg::At(self.address(&parts.packed)), Arg::At(self.address(&parts.scales)));
        if weight.codes() == Codes::Int8 {
            let args = [&[x.into(), packed, scales][..], &end].concat();
            self.start(Source::Codes, "eight_bits_times_vector", grid, &args)?;
            return Ok(true);
        }
        let (codes, map, offset) = parts.nested(*self);
        let start = [
            x.into(),
            packed,
            Arg::At(self.address(&parts.book)),
            scales,
            Arg::At(codes),
            Arg::At(map),
            offset.into(),
            (weight.block().ilog2() as usize).into(),
        ];
        self.start(Source::Codes, "four_bits_times_vector", grid, &[&start[..], &end].concat())?;
        Ok(true)
    }
}
