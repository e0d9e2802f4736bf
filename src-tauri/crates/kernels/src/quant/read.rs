//! From codes back to values, as packing asks for them: some values in a row, from anywhere.
#![allow(unsafe_code)]

use super::{Codes, Quantised};
use crate::{
    level::{Level, vectorised},
    matmul::prefetch,
};

/// Values of four bits that are read at a time: those of eight bytes.
const CHUNK: usize = 16;

impl Quantised {
    /// The values from `start` on, in row-major order, as many as `to` takes.
    #[inline]
    pub(crate) fn read(&self, start: usize, to: &mut [f32]) {
        assert!(start + to.len() <= self.shape.0 * self.shape.1, "values are read inside the matrix");
        match self.codes.book() {
            Some(book) => self.read_four_bits(book, start, to),
            None => self.read_eight_bits(start, to),
        }
    }

    /// Asks for `count` values from `at` on, which need not be there.
    pub(crate) fn prefetch(&self, at: usize, count: usize) {
        let (at, count) = match self.codes {
            Codes::Int8 => (at, count),
            Codes::Nf4 | Codes::Fp4 => (at / 2, count.div_ceil(2)),
        };
        prefetch(self.packed.as_ptr().wrapping_add(at), count);
    }

    #[inline]
    fn read_four_bits(&self, book: &[f32; 16], start: usize, to: &mut [f32]) {
        let one = |at: usize| {
            let byte = self.packed[at / 2];
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            book[usize::from(code)] * self.scales.get(at / self.block)
        };
        let mut at = start;
        let (head, to) = to.split_at_mut((start.next_multiple_of(CHUNK) - start).min(to.len()));
        for value in head {
            *value = one(at);
            at += 1;
        }
        // A chunk that starts at a multiple of 16 lies in one block, which is a power of two of 32 or more.
        let (chunks, tail) = to.as_chunks_mut::<CHUNK>();
        let bytes = self.packed[at / 2..].as_chunks::<{ CHUNK / 2 }>().0;
        let shift = self.block.trailing_zeros();
        let mut scale = (usize::MAX, 0f32);
        let level = Level::current();
        for (chunk, bytes) in chunks.iter_mut().zip(bytes) {
            if at >> shift != scale.0 {
                scale = (at >> shift, self.scales.get(at >> shift));
            }
            decode(level, bytes, book, scale.1, chunk);
            at += CHUNK;
        }
        for value in tail {
            *value = one(at);
            at += 1;
        }
    }

    #[inline]
    fn read_eight_bits(&self, start: usize, mut to: &mut [f32]) {
        debug_assert_eq!(self.codes, Codes::Int8);
        let mut at = start;
        while !to.is_empty() {
            let row = at / self.block;
            let count = ((row + 1) * self.block - at).min(to.len());
            let (own, rest) = std::mem::take(&mut to).split_at_mut(count);
            widen(&self.packed[at..at + own.len()], self.scales.get(row) / super::LARGEST, own);
            at += own.len();
            to = rest;
        }
    }
}

vectorised! {
    fn widen(from: &[u8], scale: f32, to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from(*from as i8) * scale;
        }
    }
}

/// 16 values from their bytes.
#[inline(always)]
fn decode(level: Level, bytes: &[u8; CHUNK / 2], book: &[f32; 16], scale: f32, to: &mut [f32; CHUNK]) {
    #[cfg(target_arch = "x86_64")]
    match level {
        Level::Portable => {}
        // SAFETY: the level in force is one whose instructions the processor has.
        Level::Avx2 => return unsafe { decode_avx2(bytes, book, scale, to) },
        // SAFETY: as above; all further levels include AVX-512 F.
        _ => return unsafe { decode_avx512(bytes, book, scale, to) },
    }
    let _ = level;
    for (to, byte) in to.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *to = [book[usize::from(byte >> 4)] * scale, book[usize::from(byte & 15)] * scale];
    }
}

/// Each value's bits are shifted to the lowest place of its lane, and choose one of 16 lanes of the book.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn decode_avx512(bytes: &[u8; CHUNK / 2], book: &[f32; 16], scale: f32, to: &mut [f32; CHUNK]) {
    use std::arch::x86_64::*;
    let half = |i: usize| i32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    let shifts = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
    let both = _mm512_mask_set1_epi32(_mm512_set1_epi32(half(0)), 0xff00, half(4));
    // SAFETY: the book and the place are 16 f32 long.
    unsafe {
        let values = _mm512_permutexvar_ps(_mm512_srlv_epi32(both, shifts), _mm512_loadu_ps(book.as_ptr()));
        _mm512_storeu_ps(to.as_mut_ptr(), _mm512_mul_ps(values, _mm512_set1_ps(scale)));
    }
}

/// The same by eights: the lowest three bits choose a lane of each half of the book, the fourth one of the two.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn decode_avx2(bytes: &[u8; CHUNK / 2], book: &[f32; 16], scale: f32, to: &mut [f32; CHUNK]) {
    use std::arch::x86_64::*;
    let shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
    for (to, bytes) in to.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let codes = _mm256_srlv_epi32(_mm256_set1_epi32(i32::from_le_bytes(*bytes)), shifts);
        // SAFETY: the book is 16 f32 long, the place 8.
        unsafe {
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(book.as_ptr()), codes);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(book.as_ptr().add(8)), codes);
            let which = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            let values = _mm256_blendv_ps(low, high, which);
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_mul_ps(values, _mm256_set1_ps(scale)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Quantised;

    #[test]
    fn parts_are_read_as_the_whole_is() {
        let values: Vec<f32> = (0..20 * 75).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        for (codes, nested) in
            [(Codes::Nf4, false), (Codes::Nf4, true), (Codes::Fp4, false), (Codes::Int8, false)]
        {
            let matrix = Quantised::new(codes, nested, (20, 75), &values).unwrap();
            // Value by value, as the definition has it.
            let want: Vec<f32> = (0..values.len())
                .map(|i| match codes.book() {
                    Some(book) => {
                        let byte = matrix.packed[i / 2];
                        let code = if i % 2 == 0 { byte >> 4 } else { byte & 15 };
                        book[usize::from(code)] * matrix.scales.get(i / 64)
                    }
                    None => f32::from(matrix.packed[i] as i8) * (matrix.scales.get(i / 75) / 127.0),
                })
                .collect();
            assert_eq!(matrix.to_vec(), want, "{codes:?}");
            for (start, len) in [(0, 16), (3, 1), (5, 40), (64, 32), (100, 555), (1499, 1), (1500, 0)] {
                let mut part = vec![0f32; len];
                matrix.read(start, &mut part);
                assert_eq!(part, want[start..start + len], "{codes:?} from {start}");
            }
            let worst = values.iter().zip(&want).map(|(v, w)| (v - w).abs()).fold(0.0, f32::max);
            let allowed = if codes == Codes::Int8 { 0.03 } else { 1.4 };
            assert!(worst < allowed, "{codes:?}: {worst} from the values");
        }
    }
}
