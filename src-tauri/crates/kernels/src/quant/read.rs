//! From codes back to values, as packing asks for them: some values in a row, from anywhere.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{Codes, Quantised};
#[cfg(target_arch = "x86_64")]
use crate::level::Level;
use crate::{level::vectorised, matmul::prefetch};

/// Values of four bits that are read at a time: those of eight bytes.
const CHUNK: usize = 16;

impl Quantised {
    /// The values from `start` on, in row-major order, as many as `to` takes.
    #[inline]
    pub(crate) fn read(&self, start: usize, to: &mut [f32]) {
        assert!(start + to.len() <= self.len(), "values are read inside the matrix");
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

    fn read_four_bits(&self, book: &[f32; 16], start: usize, to: &mut [f32]) {
        let one = |at: usize| {
            let byte = self.packed[at / 2];
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            book[usize::from(code)] * self.scales.get(at / self.block)
        };
        let (head, to) = to.split_at_mut((start.next_multiple_of(CHUNK) - start).min(to.len()));
        let (chunks, tail) = to.as_chunks_mut::<CHUNK>();
        let first = start + head.len();
        let after = first + chunks.len() * CHUNK;
        head.iter_mut().zip(start..).for_each(|(value, at)| *value = one(at));
        tail.iter_mut().zip(after..).for_each(|(value, at)| *value = one(at));
        if chunks.is_empty() {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        match Level::current() {
            Level::Portable => {}
            // SAFETY: the level in force is one whose instructions the processor has; the chunks are inside the matrix.
            Level::Avx2 => return unsafe { self.chunks_avx2(book, first, chunks) },
            // SAFETY: as above; all further levels include AVX-512 F.
            _ => return unsafe { self.chunks_avx512(first, chunks) },
        }
        let bytes = self.packed[first / 2..].as_chunks::<{ CHUNK / 2 }>().0;
        for ((chunk, bytes), at) in chunks.iter_mut().zip(bytes).zip((first..).step_by(CHUNK)) {
            let scale = self.scales.get(at / self.block);
            for (to, byte) in chunk.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                *to = [book[usize::from(byte >> 4)] * scale, book[usize::from(byte & 15)] * scale];
            }
        }
    }

    /// Chunks from `first` on, a multiple of 16: each lies in one block, which is a power of two of 32 or more.
    ///
    /// # Safety
    /// The processor has AVX-512 F, and all chunks lie inside the matrix.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn chunks_avx512(&self, first: usize, chunks: &mut [[f32; CHUNK]]) {
        // SAFETY: as the caller promises.
        unsafe {
            let wide = Wide::new(self, first);
            for (chunk, at) in chunks.iter_mut().zip((first..).step_by(CHUNK)) {
                _mm512_storeu_ps(chunk.as_mut_ptr(), wide.values(0, at, 0));
            }
        }
    }

    /// The same by eights: the lowest three bits choose a lane of each half of the book, the fourth one of the two.
    ///
    /// # Safety
    /// The processor has AVX2, and all chunks lie inside the matrix.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn chunks_avx2(&self, book: &[f32; 16], first: usize, chunks: &mut [[f32; CHUNK]]) {
        let shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
        // SAFETY: the book is 16 f32 long.
        let halves = unsafe { [_mm256_loadu_ps(book.as_ptr()), _mm256_loadu_ps(book.as_ptr().add(8))] };
        let bytes = self.packed[first / 2..].as_chunks::<{ CHUNK / 2 }>().0;
        for ((chunk, bytes), at) in chunks.iter_mut().zip(bytes).zip((first..).step_by(CHUNK)) {
            let scale = _mm256_set1_ps(self.scales.get(at / self.block));
            for (to, bytes) in chunk.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<4>().0) {
                let codes = _mm256_srlv_epi32(_mm256_set1_epi32(i32::from_le_bytes(*bytes)), shifts);
                let [low, high] = halves.map(|half| _mm256_permutevar8x32_ps(half, codes));
                let which = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
                let values = _mm256_mul_ps(_mm256_blendv_ps(low, high, which), scale);
                // SAFETY: 8 places.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) };
            }
        }
    }

    /// Whether lines that are `apart` values from each other can be read sixteen values at a time: every sixteen from `first` on lie in
    /// one block.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_even_lines(&self, first: usize, apart: usize) -> bool {
        match self.codes {
            Codes::Nf4 | Codes::Fp4 => first.is_multiple_of(CHUNK) && apart.is_multiple_of(CHUNK),
            Codes::Int8 => apart == self.block,
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

/// Sixteen values at a time in the registers of AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Wide<'a> {
    weight: &'a Quantised,
    book: __m512,
    shifts: __m512i,
    /// Of int8, the row of the first line.
    row: usize,
    /// Of four bits, the logarithm of a block's length.
    shift: u32,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Wide<'a> {
    /// For lines of which the first starts at `first`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn new(weight: &'a Quantised, first: usize) -> Self {
        let book = match weight.codes.book() {
            // SAFETY: the book is 16 f32 long.
            Some(book) => unsafe { _mm512_loadu_ps(book.as_ptr()) },
            None => _mm512_setzero_ps(),
        };
        Wide {
            weight,
            book,
            shifts: _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24),
            row: first / weight.block.max(1),
            shift: weight.block.trailing_zeros(),
        }
    }

    /// Values of line `line`, which starts at `at`, from its `skipped`-th on. Of four bits, each value's bits are shifted to the lowest
    /// place of its lane, and choose one of the 16 lanes of the book.
    ///
    /// # Safety
    /// They lie inside the matrix, and [`Quantised::has_even_lines`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) unsafe fn values(&self, line: usize, at: usize, skipped: usize) -> __m512 {
        let Wide { weight, book, shifts, row, shift } = *self;
        let at = at + skipped;
        // SAFETY: the values lie inside the matrix, and so do their bytes.
        unsafe {
            if weight.codes == Codes::Int8 {
                let scale = _mm512_set1_ps(weight.scales.get(row + line) / super::LARGEST);
                let bytes = _mm_loadu_si128(weight.packed.as_ptr().add(at).cast());
                return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scale);
            }
            let scale = _mm512_set1_ps(weight.scales.get(at >> shift));
            let from = weight.packed.as_ptr().add(at / 2).cast::<i32>();
            let low = _mm512_set1_epi32(from.read_unaligned());
            let both = _mm512_mask_set1_epi32(low, 0xff00, from.add(1).read_unaligned());
            _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srlv_epi32(both, shifts), book), scale)
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
