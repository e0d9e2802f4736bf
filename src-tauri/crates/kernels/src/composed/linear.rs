//! Products with frozen weights, and these in few bits on a device.

use std::sync::OnceLock;

use candle_core::{DType, Device, Result, Tensor};

use super::{converted, given};
use crate::{
    FrozenWeight,
    quant::{Codes, DynamicMap, LARGEST, Quantised, Scales},
};

/// Numbers of a weight that are widened at a time: 64 MB of f32.
const WIDENED: usize = 1 << 24;

/// `x wᵀ`, `[tokens, in]` by `[out, in]`, in the dtype of `x`; the gradient of `x` is `g w`.
pub(crate) fn frozen_linear(x: &Tensor, weight: FrozenWeight) -> Result<Tensor> {
    let weight = weight.detach();
    let own = x.detach();
    let parts = Slabs::new(&weight, x)?.map(|slab| {
        let slab = slab?;
        own.to_dtype(slab.rows.dtype())?.matmul(&slab.rows.t()?)?.to_dtype(x.dtype())
    });
    let value = joined(parts.collect::<Result<Vec<_>>>()?)?;
    given("frozen-linear", &[x], value, move |operands, _, gradient| {
        let x = operands[0];
        let mut dx: Option<Tensor> = None;
        for slab in Slabs::new(&weight, x)? {
            let Slab { first, rows } = slab?;
            let own = gradient.narrow(1, first, rows.dim(0)?)?.contiguous()?.to_dtype(rows.dtype())?;
            let part = own.matmul(&rows)?;
            dx = Some(match dx {
                None => part,
                // Parts are summed in f32.
                Some(sum) => (sum.to_dtype(DType::F32)? + part.to_dtype(DType::F32)?)?,
            });
        }
        Ok(vec![dx.map(|dx| dx.to_dtype(x.dtype())).transpose()?])
    })
}

/// `x wᵀ` of f32 as numbers of the weight's dtype, f32 again, without a gradient.
pub(crate) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.detach().to_dtype(weight.dtype())?.matmul(&weight.detach().t()?)?.to_dtype(DType::F32)
}

/// Columns side by side.
fn joined(parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        many => Tensor::cat(many, 1),
    }
}

/// Rows of a weight as they are multiplied.
pub(super) struct Slab {
    /// The index of the first one.
    pub first: usize,
    /// `[rows, in]`.
    pub rows: Tensor,
}

/// The rows of a weight, in the dtype that products with `x` are of: that of both where they agree, else f32. What must be widened is
/// so a slab at a time.
pub(super) struct Slabs<'a> {
    weight: &'a FrozenWeight,
    device: Device,
    dtype: DType,
    /// Rows of the weight, and of a slab.
    rows: usize,
    step: usize,
    next: usize,
}

impl<'a> Slabs<'a> {
    pub fn new(weight: &'a FrozenWeight, x: &Tensor) -> Result<Self> {
        let (rows, columns) = weight.dims2()?;
        let as_it_is = match weight {
            FrozenWeight::Tensor(tensor) => tensor.dtype() == x.dtype(),
            FrozenWeight::Quantised { .. } => false,
        };
        let dtype = match weight {
            FrozenWeight::Quantised { dtype, .. } if *dtype != DType::F32 => x.dtype(),
            _ if as_it_is => x.dtype(),
            _ => DType::F32,
        };
        let step = if as_it_is { rows } else { WIDENED / columns.max(1) };
        // So that a slab begins where a block of four-bit codes does.
        let step = match weight {
            FrozenWeight::Quantised { weight, .. } if weight.codes() != Codes::Int8 => {
                step.next_multiple_of(weight.block())
            }
            _ => step,
        };
        Ok(Slabs { weight, device: x.device().clone(), dtype, rows, step: step.max(1), next: 0 })
    }

    /// The same with slabs of at most so many rows where the weight is a tensor, in f32.
    pub fn narrow(weight: &'a FrozenWeight, device: &Device, step: usize) -> Result<Self> {
        let (rows, _) = weight.dims2()?;
        Ok(Slabs { weight, device: device.clone(), dtype: DType::F32, rows, step: step.max(1), next: 0 })
    }

    fn slab(&self, first: usize, count: usize) -> Result<Tensor> {
        match self.weight {
            FrozenWeight::Tensor(tensor) => converted(&tensor.narrow(0, first, count)?, self.dtype),
            FrozenWeight::Quantised { weight, .. } => weight
                .on_device()
                .parts(weight, &self.device)?
                .rows(weight, first, count)?
                .to_dtype(self.dtype),
        }
    }
}

impl Iterator for Slabs<'_> {
    type Item = Result<Slab>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.next;
        let count = self.step.min(self.rows - first);
        if count == 0 {
            return None;
        }
        self.next += count;
        Some(self.slab(first, count).map(|rows| Slab { first, rows }))
    }
}

/// A quantised matrix's copy on a device, as tensors, made when it is first computed with there.
#[derive(Debug, Default)]
pub(crate) struct OnDevice(OnceLock<Parts>);

impl PartialEq for OnDevice {
    /// A copy says nothing of its own.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Bytes of codes, up to the end of the last block.
    packed: Tensor,
    /// What each byte stands for: `[256, 2]` of four bits, else `[256, 1]`.
    book: Tensor,
    scales: DeviceScales,
}

#[derive(Debug, Clone)]
enum DeviceScales {
    Plain(Tensor),
    /// Codes, what they stand for, the scale of each 256 of them `[n, 1]`, and what is added.
    Nested {
        codes: Tensor,
        map: Tensor,
        scales: Tensor,
        offset: f32,
    },
}

impl OnDevice {
    /// The copy on this device, made at the first call.
    pub fn parts(&self, weight: &Quantised, device: &Device) -> Result<Parts> {
        if let Some(made) = self.0.get().filter(|made| made.packed.device().same_device(device)) {
            return Ok(made.clone());
        }
        let made = Parts::new(weight, device)?;
        // Where there is a copy on another device, that one stays.
        let _ = self.0.set(made.clone());
        Ok(made)
    }
}

/// Bytes with zeros behind them.
fn padded(bytes: &[u8], length: usize, device: &Device) -> Result<Tensor> {
    let mut all = bytes.to_vec();
    all.resize(length, 0);
    Tensor::from_vec(all, length, device)
}

impl Parts {
    fn new(weight: &Quantised, device: &Device) -> Result<Self> {
        let book: Vec<f32> = match weight.codes().book() {
            Some(book) => (0..256).flat_map(|byte| [book[byte >> 4], book[byte & 15]]).collect(),
            None => (0..=u8::MAX).map(|byte| f32::from(byte as i8) / LARGEST).collect(),
        };
        let (count, of_byte) = (weight.len(), book.len() / 256);
        let bytes = count.next_multiple_of(weight.block()) / of_byte;
        let scales = match weight.scales() {
            Scales::Plain(all) => DeviceScales::Plain(Tensor::from_slice(all, all.len(), device)?),
            Scales::Nested { codes, scales, offset } => {
                let map = DynamicMap::signed().codes();
                DeviceScales::Nested {
                    codes: padded(codes, codes.len().next_multiple_of(DynamicMap::BLOCK), device)?,
                    map: Tensor::from_slice(map, map.len(), device)?,
                    scales: Tensor::from_slice(scales, (scales.len(), 1), device)?,
                    offset: *offset,
                }
            }
        };
        Ok(Parts {
            packed: padded(weight.packed(), bytes, device)?,
            book: Tensor::from_vec(book, (256, of_byte), device)?,
            scales,
        })
    }

    /// The scales of all blocks, f32.
    fn scales(&self) -> Result<Tensor> {
        match &self.scales {
            DeviceScales::Plain(all) => Ok(all.clone()),
            DeviceScales::Nested { codes, map, scales, offset } => {
                let values = looked_up(map, codes)?.reshape(((), DynamicMap::BLOCK))?;
                (values.broadcast_mul(scales)? + f64::from(*offset))?.flatten_all()
            }
        }
    }

    /// Some rows as f32; the first begins where a block does.
    fn rows(&self, weight: &Quantised, first: usize, count: usize) -> Result<Tensor> {
        let (_, columns) = weight.shape();
        let (start, values, block) = (first * columns, count * columns, weight.block());
        let of_byte = self.book.dim(1)?;
        let (first_block, blocks) = (start / block, values.div_ceil(block));
        let bytes = self.packed.narrow(0, start / of_byte, blocks * block / of_byte)?;
        let scales = self.scales()?.narrow(0, first_block, blocks)?.reshape((blocks, 1))?;
        let all = looked_up(&self.book, &bytes)?.reshape((blocks, block))?.broadcast_mul(&scales)?;
        all.flatten_all()?.narrow(0, 0, values)?.reshape((count, columns))
    }
}

/// Rows of a table by bytes. These become wider indices: candle takes the largest of a type for none at all.
fn looked_up(table: &Tensor, bytes: &Tensor) -> Result<Tensor> {
    table.index_select(&bytes.to_dtype(DType::U32)?, 0)
}
