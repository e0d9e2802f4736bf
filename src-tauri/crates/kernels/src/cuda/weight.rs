//! Frozen weights on the card. What is kept in few bits stays so there, and is widened before a product, a matrix at a time.

use std::sync::OnceLock;

use candle_core::{Result, cuda_backend::cudarc::driver::CudaSlice};

use super::{
    card::{Arg, Card, Grid, Numbers, Room, Source, numbers},
    precision::Precision,
};
use crate::{
    FrozenWeight,
    quant::{Codes, DynamicMap, Quantised, Scales},
};

/// A quantised matrix's copy on the card, made when it is first computed with there.
#[derive(Debug, Default)]
pub(crate) struct OnCard(OnceLock<Parts>);

impl PartialEq for OnCard {
    /// A copy says nothing of its own.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Parts {
    packed: CudaSlice<u8>,
    book: CudaSlice<f32>,
    scales: CudaSlice<f32>,
    /// Codes of the scales, what they stand for, and what is added.
    nested: Option<(CudaSlice<u8>, CudaSlice<f32>, f32)>,
}

impl Parts {
    fn new(card: Card, weight: &Quantised) -> Result<Self> {
        let (scales, nested) = match weight.scales() {
            Scales::Plain(all) => (card.upload(all)?, None),
            Scales::Nested { codes, scales, offset } => {
                let map = card.upload(DynamicMap::signed().codes())?;
                (card.upload(scales)?, Some((card.upload(codes)?, map, *offset)))
            }
        };
        let book = weight.codes().book().map_or([0.0; 16].as_slice(), |book| book.as_slice());
        Ok(Parts { packed: card.upload(weight.packed())?, book: card.upload(book)?, scales, nested })
    }
}

impl Card<'_> {
    /// The values of a weight, and the room they are in where that is only for now.
    pub(super) fn weight(&self, weight: &FrozenWeight) -> Result<(Numbers, Option<Room>)> {
        match weight {
            FrozenWeight::Tensor(tensor) => Ok((numbers(tensor)?, None)),
            FrozenWeight::Quantised { weight, dtype } => {
                let room = self.room(Precision::of(*dtype)?, weight.len())?;
                let to = room.numbers(self);
                self.widen(weight, to)?;
                Ok((to, Some(room)))
            }
        }
    }

    fn widen(&self, weight: &Quantised, to: Numbers) -> Result<()> {
        let parts = match weight.on_card().0.get() {
            Some(parts) => parts,
            None => {
                let made = Parts::new(*self, weight)?;
                weight.on_card().0.get_or_init(|| made)
            }
        };
        let count = weight.len();
        let long = Arg::Long(count as i64);
        let (packed, scales) = (Arg::At(self.address(&parts.packed)), Arg::At(self.address(&parts.scales)));
        if weight.codes() == Codes::Int8 {
            let args = [packed, scales, weight.block().into(), to.into(), long];
            return self.start(
                Source::Train,
                &format!("eight_bits_{}", to.suffix()),
                Grid::threads(count),
                &args,
            );
        }
        let (codes, map, offset) = match &parts.nested {
            Some((codes, map, offset)) => (self.address(codes), self.address(map), *offset),
            None => (0, 0, 0.0),
        };
        let args = [
            packed,
            Arg::At(self.address(&parts.book)),
            scales,
            Arg::At(codes),
            Arg::At(map),
            offset.into(),
            (weight.block().ilog2() as usize).into(),
            to.into(),
            long,
        ];
        let name = format!("four_bits_{}", to.suffix());
        self.start(Source::Train, &name, Grid::threads(count.div_ceil(8)), &args)
    }
}
