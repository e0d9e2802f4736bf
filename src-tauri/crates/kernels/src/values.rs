//! Numbers in f32 or bf16, as slices, behind tensors and in storages.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Error, Layout, Result, Storage, Tensor, bail, op::BackpropOp};
use half::bf16;
use rayon::prelude::*;

use crate::{buffer::Buffer, level::vectorised};

/// Values that a thread converts at a time.
const PIECE: usize = 1 << 16;

/// Numbers to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Values<'a> {
    /// Those behind a contiguous layout.
    pub(crate) fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            return Err(Error::RequiresContiguous { op: "kernels" }.bt());
        };
        match storage {
            CpuStorage::F32(values) => Ok(Values::F32(&values[from..to])),
            CpuStorage::BF16(values) => Ok(Values::Bf16(&values[from..to])),
            _ => bail!("only f32 and bf16 tensors are computed on"),
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::Bf16(v) => v.len(),
        }
    }

    /// All from `start` on.
    pub(crate) fn from(self, start: usize) -> Self {
        match self {
            Values::F32(v) => Values::F32(&v[start..]),
            Values::Bf16(v) => Values::Bf16(&v[start..]),
        }
    }

    /// The values from `start` on as f32, as many as `to` takes.
    pub(crate) fn read(self, start: usize, to: &mut [f32]) {
        match self {
            Values::F32(v) => to.copy_from_slice(&v[start..start + to.len()]),
            Values::Bf16(v) => widen(&v[start..start + to.len()], to),
        }
    }

    /// The f32 values; an error where they are bf16.
    pub(crate) fn f32(self) -> Result<&'a [f32]> {
        match self {
            Values::F32(v) => Ok(v),
            Values::Bf16(_) => bail!("f32 is expected here, not bf16"),
        }
    }
}

/// Numbers that an operation makes.
#[derive(Debug)]
pub(crate) enum Numbers {
    F32(Buffer<f32>),
    Bf16(Buffer<bf16>),
}

impl Numbers {
    /// `len` numbers of any value.
    pub(crate) fn any(bf16: bool, len: usize) -> Self {
        if bf16 { Numbers::Bf16(Buffer::any(len)) } else { Numbers::F32(Buffer::any(len)) }
    }

    /// The values given, rounded where bf16 is asked for.
    pub(crate) fn rounded(bf16: bool, values: Buffer<f32>) -> Self {
        if !bf16 {
            return Numbers::F32(values);
        }
        let mut rounded = Buffer::any(values.len());
        let pieces = rounded.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE));
        pieces.for_each(|(to, from)| narrow(from, to));
        Numbers::Bf16(rounded)
    }

    /// The values as f32.
    pub(crate) fn into_f32(self) -> Buffer<f32> {
        match self {
            Numbers::F32(values) => values,
            Numbers::Bf16(values) => {
                let mut wide = Buffer::any(values.len());
                let pieces = wide.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE));
                pieces.for_each(|(to, from)| widen(from, to));
                wide
            }
        }
    }

    pub(crate) fn values(&self) -> Values<'_> {
        match self {
            Numbers::F32(v) => Values::F32(v),
            Numbers::Bf16(v) => Values::Bf16(v),
        }
    }

    pub(crate) fn values_mut(&mut self) -> ValuesMut<'_> {
        match self {
            Numbers::F32(v) => ValuesMut::F32(v),
            Numbers::Bf16(v) => ValuesMut::Bf16(v),
        }
    }
}

/// Numbers to write.
#[derive(Debug)]
pub(crate) enum ValuesMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

impl ValuesMut<'_> {
    /// The same for a while.
    pub(crate) fn reborrow(&mut self) -> ValuesMut<'_> {
        match self {
            ValuesMut::F32(v) => ValuesMut::F32(v),
            ValuesMut::Bf16(v) => ValuesMut::Bf16(v),
        }
    }
}

/// The values of a contiguous CPU tensor, held for reading.
pub(crate) struct Held<'a, S> {
    storage: S,
    layout: &'a Layout,
}

/// Holds the values of a tensor.
pub(crate) fn hold(tensor: &Tensor) -> Held<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = tensor.storage_and_layout();
    Held { storage, layout }
}

impl<S: Deref<Target = Storage>> Held<'_, S> {
    pub(crate) fn values(&self) -> Result<Values<'_>> {
        match &*self.storage {
            Storage::Cpu(storage) => Values::of(storage, self.layout),
            _ => bail!("this operation is computed on the CPU only"),
        }
    }
}

/// A tensor of f32 values in the shape of `like`, which must be f32 too; nothing is copied.
pub(crate) fn f32_tensor(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    if values.len() != like.elem_count() || like.dtype() != DType::F32 {
        bail!("{} f32 values are no gradient of {:?}", values.len(), like.shape());
    }
    Ok(Tensor::from_storage(Storage::Cpu(CpuStorage::F32(values)), like.shape(), BackpropOp::none(), false))
}

vectorised! {
    /// Widens bf16 into `to`, of the same length.
    pub(crate) fn widen(from: &[bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }

    /// Rounds to the nearest bf16, ties to even, into `to`, of the same length.
    pub(crate) fn narrow(from: &[f32], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = bf16::from_bits(bf16_bits(*from) as u16);
        }
    }
}

/// The nearest bf16, ties to even, in the low half.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding must not carry a NaN over into the sign.
    if x.is_nan() { 0x7fc0 } else { rounded }
}
