//! Frozen weights in four or eight bits a value, as bitsandbytes has them.
//!
//! NF4 (Dettmers et al. 2023, arXiv:2305.14314) and FP4 keep blocks of 64 values, each as the index of the nearest of 16 codes, and the
//! largest magnitude of the block, its scale. The scales may be kept in eight bits too ("double quantisation"): blocks of 256 of
//! them, less their mean, by a [`DynamicMap`]. Int8 (LLM.int8, Dettmers et al. 2022, arXiv:2208.07339) keeps each row as integers
//! from −127 to 127 and the row's largest magnitude.
//!
//! LLM.int8 multiplies integers by integers, so it must round activations too, and computes the few columns of activations that
//! exceed 6.0 apart, in higher precision. Here only weights are kept in integers: they are widened as they are packed
//! for a product and meet activations in bf16 or f32, outliers among them. So every column is computed as LLM.int8 computes
//! its outliers, and no threshold is needed.

mod dynamic_map;
mod quantiser;
mod read;

use candle_core::{Result, bail};

use crate::composed::OnDevice;

#[cfg(target_arch = "x86_64")]
pub(crate) use self::read::Wide;
pub use self::{dynamic_map::DynamicMap, quantiser::Quantiser};

/// Values of a block of four-bit codes.
pub(crate) const BLOCK: usize = 64;
/// The largest integer of int8.
pub(crate) const LARGEST: f32 = 127.0;

/// What values are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// Four bits: 16 quantiles of a normal distribution.
    Nf4,
    /// Four bits: a sign, two bits of exponent and one of fraction.
    Fp4,
    /// Eight bits: integers.
    Int8,
}

/// The codes of NF4, in order of their index, which is that of size.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The codes of FP4 by their index: eight magnitudes in twelfths, then the same with the other sign.
const FP4: [f32; 16] = {
    const TWELFTHS: [f32; 8] = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0];
    let mut codes = [0.0; 16];
    let mut i = 0;
    while i < 8 {
        codes[i] = TWELFTHS[i] / 12.0;
        codes[8 + i] = -TWELFTHS[i] / 12.0;
        i += 1;
    }
    codes
};

impl Codes {
    /// What four bits stand for, by their index; none of int8.
    pub fn book(self) -> Option<&'static [f32; 16]> {
        match self {
            Codes::Nf4 => Some(&NF4),
            Codes::Fp4 => Some(&FP4),
            Codes::Int8 => None,
        }
    }

    /// Bytes of `count` values.
    fn bytes(self, count: usize) -> usize {
        if self == Codes::Int8 { count } else { count.div_ceil(2) }
    }
}

/// What brings codes back to the size of the values.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// The largest magnitude of each block of so many values, of four bits, or of each row, of int8.
    Plain(Vec<f32>),
    /// The same, quantised: code, scale of each 256 codes, and what is added to all.
    Nested {
        /// Indices into [`DynamicMap::signed`].
        codes: Vec<u8>,
        /// One for each 256 codes.
        scales: Vec<f32>,
        /// The mean of all.
        offset: f32,
    },
}

impl Scales {
    fn len(&self) -> usize {
        match self {
            Scales::Plain(all) => all.len(),
            Scales::Nested { codes, .. } => codes.len(),
        }
    }

    #[inline(always)]
    fn get(&self, at: usize) -> f32 {
        match self {
            Scales::Plain(all) => all[at],
            Scales::Nested { codes, scales, offset } => {
                DynamicMap::signed().code(codes[at]) * scales[at / DynamicMap::BLOCK] + offset
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Scales::Plain(all) => 4 * all.len(),
            Scales::Nested { codes, scales, .. } => codes.len() + 4 * scales.len() + 4,
        }
    }

    fn are_finite(&self) -> bool {
        match self {
            Scales::Plain(all) => all.iter().all(|v| v.is_finite()),
            Scales::Nested { scales, offset, .. } => {
                offset.is_finite() && scales.iter().all(|v| v.is_finite())
            }
        }
    }
}

/// A matrix `[rows, columns]` in four or eight bits a value.
#[derive(Debug, PartialEq)]
pub struct Quantised {
    codes: Codes,
    /// Row after row; of four bits two a byte, the first in the high half.
    packed: Vec<u8>,
    scales: Scales,
    shape: (usize, usize),
    /// Values that share a scale: a power of two, or a row.
    block: usize,
    on_device: OnDevice,
    #[cfg(feature = "cuda")]
    on_card: crate::cuda::OnCard,
}

impl Quantised {
    /// From its parts, as bitsandbytes writes them: `block` values of four bits share a scale, or a row of int8.
    ///
    /// # Errors
    /// The parts do not fit each other, or a scale is not finite.
    pub fn from_parts(
        codes: Codes,
        packed: Vec<u8>,
        scales: Scales,
        shape: (usize, usize),
        block: usize,
    ) -> Result<Self> {
        let (rows, columns) = shape;
        let Some(count) = rows.checked_mul(columns) else { bail!("[{rows}, {columns}] is too large") };
        let block = if codes == Codes::Int8 { columns.max(1) } else { block };
        if codes != Codes::Int8 && !(block.is_power_of_two() && (32..=4096).contains(&block)) {
            bail!("blocks of {block} values are not known; a power of two from 32 to 4096 is expected");
        }
        if packed.len() != codes.bytes(count) {
            bail!("{} bytes of codes are no [{rows}, {columns}]", packed.len());
        }
        let expected = count.div_ceil(block);
        if scales.len() != expected {
            bail!("{} scales are given for {expected} blocks of {block}", scales.len());
        }
        if let Scales::Nested { codes, scales, .. } = &scales
            && scales.len() != codes.len().div_ceil(DynamicMap::BLOCK)
        {
            bail!("{} scales of scales are given for {} scales", scales.len(), codes.len());
        }
        if !scales.are_finite() {
            bail!("a scale is not a finite number");
        }
        Ok(Quantised {
            codes,
            packed,
            scales,
            shape,
            block,
            on_device: OnDevice::default(),
            #[cfg(feature = "cuda")]
            on_card: Default::default(),
        })
    }

    /// `(rows, columns)`.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// How many values it has.
    pub(crate) fn len(&self) -> usize {
        self.shape.0 * self.shape.1
    }

    /// What its values are kept as.
    pub fn codes(&self) -> Codes {
        self.codes
    }

    /// Values that share a scale.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Its copy on the card, where there is one.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_card(&self) -> &crate::cuda::OnCard {
        &self.on_card
    }

    /// Its copy as tensors, where there is one.
    pub(crate) fn on_device(&self) -> &OnDevice {
        &self.on_device
    }

    /// Its codes as they are kept.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Its scales as they are kept.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.packed.len() + self.scales.bytes()
    }

    /// Its values, row after row.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0f32; self.shape.0 * self.shape.1];
        self.read(0, &mut values);
        values
    }
}
