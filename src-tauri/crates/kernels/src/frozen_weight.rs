//! The weight of a linear layer that is never trained, in the form it is kept in.

use std::{ops::Deref, sync::Arc};

use candle_core::{DType, Result, Storage, Tensor};

use crate::{
    quant::Quantised,
    values::{Held, Values, hold},
};

/// A frozen weight `[out, in]`.
#[derive(Debug, Clone)]
pub enum FrozenWeight {
    /// f32 or bf16; on a card f16 too.
    Tensor(Tensor),
    /// In four or eight bits.
    Quantised {
        /// The values.
        weight: Arc<Quantised>,
        /// What it is computed with as: f32 or bf16; on a card f16 too.
        dtype: DType,
    },
}

impl From<Tensor> for FrozenWeight {
    fn from(tensor: Tensor) -> Self {
        FrozenWeight::Tensor(tensor)
    }
}

impl From<&Tensor> for FrozenWeight {
    fn from(tensor: &Tensor) -> Self {
        FrozenWeight::Tensor(tensor.clone())
    }
}

impl From<&FrozenWeight> for FrozenWeight {
    fn from(weight: &FrozenWeight) -> Self {
        weight.clone()
    }
}

impl FrozenWeight {
    /// `(out, in)`.
    ///
    /// # Errors
    /// It is a tensor that is no matrix.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        match self {
            FrozenWeight::Tensor(tensor) => tensor.dims2(),
            FrozenWeight::Quantised { weight, .. } => Ok(weight.shape()),
        }
    }

    /// Bytes its values take.
    pub fn bytes(&self) -> usize {
        match self {
            FrozenWeight::Tensor(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            FrozenWeight::Quantised { weight, .. } => weight.bytes(),
        }
    }

    /// What products with it are of.
    pub fn dtype(&self) -> DType {
        match self {
            FrozenWeight::Tensor(tensor) => tensor.dtype(),
            FrozenWeight::Quantised { dtype, .. } => *dtype,
        }
    }

    /// Whether products with it are of bf16.
    pub fn is_bf16(&self) -> bool {
        self.dtype() == DType::BF16
    }

    /// The same as no operand of anything.
    pub(crate) fn detach(self) -> Self {
        match self {
            FrozenWeight::Tensor(tensor) => FrozenWeight::Tensor(tensor.detach()),
            quantised => quantised,
        }
    }

    /// Its values, held for reading.
    pub(crate) fn hold(&self) -> HeldWeight<'_, impl Deref<Target = Storage>> {
        match self {
            FrozenWeight::Tensor(tensor) => HeldWeight::Tensor(hold(tensor)),
            FrozenWeight::Quantised { weight, .. } => HeldWeight::Quantised(weight, self.is_bf16()),
        }
    }
}

/// A weight that is held for reading.
pub(crate) enum HeldWeight<'a, S> {
    Tensor(Held<'a, S>),
    Quantised(&'a Quantised, bool),
}

impl<S: Deref<Target = Storage>> HeldWeight<'_, S> {
    pub(crate) fn source(&self) -> Result<Source<'_>> {
        match self {
            HeldWeight::Tensor(held) => held.values().map(Source::Values),
            &HeldWeight::Quantised(weight, bf16) => Ok(Source::Quantised { weight, bf16, start: 0 }),
        }
    }
}

/// Numbers that a product reads, in whatever form they are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Values(Values<'a>),
    /// All from `start` on.
    Quantised {
        weight: &'a Quantised,
        bf16: bool,
        start: usize,
    },
}

impl<'a> From<Values<'a>> for Source<'a> {
    fn from(values: Values<'a>) -> Self {
        Source::Values(values)
    }
}

impl Source<'_> {
    /// Whether it is computed with as bf16 is.
    pub(crate) fn is_bf16(self) -> bool {
        match self {
            Source::Values(values) => matches!(values, Values::Bf16(_)),
            Source::Quantised { bf16, .. } => bf16,
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Source::Values(values) => values.len(),
            Source::Quantised { weight, start, .. } => weight.len() - start,
        }
    }

    /// All from `first` on.
    pub(crate) fn from(self, first: usize) -> Self {
        match self {
            Source::Values(values) => Source::Values(values.from(first)),
            Source::Quantised { weight, bf16, start } => {
                assert!(first <= self.len(), "what is left out must be there");
                Source::Quantised { weight, bf16, start: start + first }
            }
        }
    }

    /// The values from `first` on as f32, as many as `to` takes.
    pub(crate) fn read(self, first: usize, to: &mut [f32]) {
        match self {
            Source::Values(values) => values.read(first, to),
            Source::Quantised { weight, start, .. } => weight.read(start + first, to),
        }
    }
}
