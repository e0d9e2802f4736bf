//! From values to codes, a piece at a time: nobody needs to hold a whole weight in f32.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{BLOCK, Codes, DynamicMap, LARGEST, Quantised, Scales};

/// The least that a block is divided by.
const LEAST: f32 = 1e-38;

/// Takes the values of a matrix, row after row, and quantises them as they come.
pub struct Quantiser {
    codes: Codes,
    nested: bool,
    shape: (usize, usize),
    packed: Vec<u8>,
    scales: Vec<f32>,
    /// Values of a block that is not complete yet.
    rest: Vec<f32>,
    seen: usize,
}

impl Quantiser {
    /// For a matrix of this shape. `nested` quantises the scales of four-bit blocks too.
    pub fn new(codes: Codes, nested: bool, shape: (usize, usize)) -> Self {
        let count = shape.0 * shape.1;
        let block = if codes == Codes::Int8 { shape.1.max(1) } else { BLOCK };
        Quantiser {
            codes,
            nested: nested && codes != Codes::Int8,
            shape,
            packed: crate::in_large_pages(codes.bytes(count)),
            scales: Vec::with_capacity(count.div_ceil(block)),
            rest: Vec::new(),
            seen: 0,
        }
    }

    fn block(&self) -> usize {
        if self.codes == Codes::Int8 { self.shape.1.max(1) } else { BLOCK }
    }

    /// The next values.
    ///
    /// # Errors
    /// There are more than the matrix has, or one is not a finite number.
    pub fn push(&mut self, mut values: &[f32]) -> Result<()> {
        self.seen += values.len();
        if self.seen > self.shape.0 * self.shape.1 {
            bail!("more values are given than {:?} has", self.shape);
        }
        let block = self.block();
        if !self.rest.is_empty() {
            let (own, after) = values.split_at(values.len().min(block - self.rest.len()));
            self.rest.extend_from_slice(own);
            values = after;
            if self.rest.len() < block {
                return Ok(());
            }
            let rest = std::mem::take(&mut self.rest);
            self.blocks(&rest)?;
        }
        let (whole, rest) = values.split_at(values.len() / block * block);
        self.rest.extend_from_slice(rest);
        self.blocks(whole)
    }

    /// Quantises whole blocks; of a matrix's last one fewer values may be left.
    fn blocks(&mut self, values: &[f32]) -> Result<()> {
        let (block, codes) = (self.block(), self.codes);
        if !values.iter().all(|v| v.is_finite()) {
            bail!("a weight is not a finite number and cannot be quantised");
        }
        let (first, first_scale) = (self.packed.len(), self.scales.len());
        self.packed.resize(first + codes.bytes(values.len()), 0);
        self.scales.resize(first_scale + values.len().div_ceil(block), 0.0);
        // Blocks that a thread takes at a time, of an even number of values where two share a byte.
        let some = (1usize << 14).div_ceil(block).max(1);
        let pieces = self.packed[first..].par_chunks_mut(codes.bytes(some * block).max(1));
        let pieces = pieces.zip(self.scales[first_scale..].par_chunks_mut(some));
        pieces.zip(values.par_chunks(some * block)).for_each(|((packed, scales), values)| {
            let packed = packed.chunks_mut(codes.bytes(block).max(1));
            for ((packed, scale), values) in packed.zip(scales).zip(values.chunks(block)) {
                *scale = match codes.book() {
                    Some(_) => four_bits(codes, values, packed),
                    None => eight_bits(values, packed),
                };
            }
        });
        Ok(())
    }

    /// The matrix.
    ///
    /// # Errors
    /// Values are missing.
    pub fn finish(mut self) -> Result<Quantised> {
        if self.seen != self.shape.0 * self.shape.1 {
            bail!("{} values are given for {:?}", self.seen, self.shape);
        }
        let rest = std::mem::take(&mut self.rest);
        self.blocks(&rest)?;
        let (block, scales) = (self.block(), self.scales);
        let scales = if self.nested { nested(&scales) } else { Scales::Plain(scales) };
        Quantised::from_parts(self.codes, self.packed, scales, self.shape, block)
    }
}

impl Quantised {
    /// Quantises a matrix that is in memory as a whole.
    ///
    /// # Errors
    /// The values are not those of the shape, or one is not a finite number.
    pub fn new(codes: Codes, nested: bool, shape: (usize, usize), values: &[f32]) -> Result<Self> {
        let mut quantiser = Quantiser::new(codes, nested, shape);
        quantiser.push(values)?;
        quantiser.finish()
    }
}

/// What lies between two neighbours among the codes, and the index of each code by its size.
struct Order {
    middles: [f32; 15],
    indices: [u8; 16],
}

const fn order(book: &[f32; 16]) -> Order {
    let mut indices = [0u8; 16];
    let mut i = 0;
    // By insertion. Of the two zeros of FP4 the one without a sign comes first, as sorting in bitsandbytes leaves them.
    while i < 16 {
        let mut at = i;
        while at > 0 && book[indices[at - 1] as usize] > book[i] {
            indices[at] = indices[at - 1];
            at -= 1;
        }
        indices[at] = i as u8;
        i += 1;
    }
    let mut middles = [0f32; 15];
    i = 0;
    while i < 15 {
        middles[i] = (book[indices[i] as usize] + book[indices[i + 1] as usize]) / 2.0;
        i += 1;
    }
    Order { middles, indices }
}

static NF4: Order = order(&super::NF4);
static FP4: Order = order(&super::FP4);

/// Codes of a block, each the nearest, the lower of two as near; returns its scale. The last block of a matrix is divided by its scale
/// where a whole one is multiplied by the inverse, as in bitsandbytes.
fn four_bits(codes: Codes, values: &[f32], packed: &mut [u8]) -> f32 {
    let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    let least = largest.max(LEAST);
    let whole = values.len() == BLOCK;
    let inverse = 1.0 / least;
    let order = if codes == Codes::Nf4 { &NF4 } else { &FP4 };
    let code = |value: f32| {
        let scaled = if whole { value * inverse } else { value / least }.clamp(-1.0, 1.0);
        let place = order.middles.iter().map(|&middle| usize::from(middle < scaled)).sum::<usize>();
        order.indices[place]
    };
    for (byte, pair) in packed.iter_mut().zip(values.chunks(2)) {
        // What fills up the last byte of a matrix stands for zero.
        *byte = code(pair[0]) << 4 | code(pair.get(1).copied().unwrap_or(0.0));
    }
    if whole { largest } else { least }
}

/// Integers of a row, halves to even; returns its scale.
fn eight_bits(values: &[f32], packed: &mut [u8]) -> f32 {
    let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    // Rows of zeros, and of numbers so small that the factor would be infinite, are zeros.
    let factor = Some(LARGEST / largest).filter(|factor| factor.is_finite()).unwrap_or(0.0);
    for (byte, value) in packed.iter_mut().zip(values) {
        *byte = (value * factor).round_ties_even().clamp(-LARGEST, LARGEST) as i8 as u8;
    }
    largest
}

/// Block scales in eight bits: less their mean, in blocks of 256.
fn nested(scales: &[f32]) -> Scales {
    let sum: f64 = scales.iter().map(|&v| f64::from(v)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let apart: Vec<f32> = scales.iter().map(|v| v - offset).collect();
    let mut codes = vec![0; scales.len()];
    let blocks = codes.chunks_mut(DynamicMap::BLOCK).zip(apart.chunks(DynamicMap::BLOCK));
    let scales = blocks.map(|(codes, apart)| DynamicMap::signed().encode(apart, codes)).collect();
    Scales::Nested { codes, scales, offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_make_the_same_matrix() {
        let values: Vec<f32> = (0..30 * 70).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        for (codes, nested) in
            [(Codes::Nf4, false), (Codes::Nf4, true), (Codes::Fp4, true), (Codes::Int8, false)]
        {
            let want = Quantised::new(codes, nested, (30, 70), &values).unwrap();
            let mut pieces = Quantiser::new(codes, nested, (30, 70));
            let mut rest = values.as_slice();
            for len in [1, 63, 2, 500, 70, 1, 1, 200].into_iter().cycle() {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                pieces.push(piece).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            assert_eq!(pieces.finish().unwrap(), want);
        }
    }

    #[test]
    fn what_cannot_be_quantised_is_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            for codes in [Codes::Nf4, Codes::Fp4, Codes::Int8] {
                let mut values = vec![1f32; 128];
                values[77] = bad;
                assert!(Quantised::new(codes, false, (2, 64), &values).is_err(), "{codes:?} {bad}");
            }
        }
        assert!(Quantised::new(Codes::Nf4, false, (2, 64), &[1.0; 127]).is_err(), "too few");
        assert!(Quantised::new(Codes::Nf4, false, (2, 64), &[1.0; 129]).is_err(), "too many");
    }
}
