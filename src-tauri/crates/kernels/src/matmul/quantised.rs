//! Squares of a quantised matrix: its codes become numbers as they are packed.

use super::{
    micro::BLOCK,
    pack::{Kind, Matrix, Part, square},
};
use crate::{frozen_weight::Source, quant::Quantised, values::Values};

/// Values of a line in a square at most.
const WIDEST: usize = 2 * BLOCK;

/// A quantised matrix from a place on, read in lines.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub weight: &'a Quantised,
    /// Where it starts.
    pub start: usize,
    pub stride: usize,
    pub across: bool,
}

/// Writes a part, as [`square`] does.
pub(super) fn quantised_square(
    kind: Kind,
    lines: Lines,
    part: Part,
    turned: bool,
    out: &mut [u32],
    stride: usize,
) {
    let Lines { weight, start, across, stride: apart } = lines;
    // Lines as they lie in memory: how many, how long, and where the first begins.
    let (count, width, first) = if across {
        (part.valid, part.lines, start + part.start * apart + part.first)
    } else {
        (part.lines, part.valid, start + part.first * apart + part.start)
    };
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    {
        let whole = if across { BLOCK } else { BLOCK * kind.per_unit() };
        let level = crate::level::Level::current();
        let lines = (if across { BLOCK * kind.per_unit() } else { BLOCK }) == count;
        if level >= crate::level::Level::Avx512
            && lines
            && width == whole
            && weight.has_even_lines(first, apart)
        {
            assert!(first + (count - 1) * apart + width <= weight.len(), "a square lies inside the matrix");
            // SAFETY: the level in force says that the processor has the features, and that it multiplies bf16 where units are
            // pairs of those; the square is whole and inside the matrix; `square` has seen that all rows of `out` have their place.
            return unsafe {
                match (kind, across) {
                    (Kind::F32, _) => wide::singles(weight, first, apart, turned, out, stride),
                    (Kind::Bf16, false) => wide::pairs_along(weight, first, apart, turned, out, stride),
                    (Kind::Bf16, true) => wide::pairs_across(weight, first, apart, turned, out, stride),
                }
            };
        }
    }
    // At the edges, and elsewhere: as f32, which are in the first-level cache when they are packed.
    let mut values = [0f32; BLOCK * WIDEST];
    let wide = if across { BLOCK } else { WIDEST };
    for (i, values) in values.chunks_exact_mut(wide).take(count).enumerate() {
        weight.read(first + i * apart, &mut values[..width]);
    }
    let source = Source::Values(Values::F32(&values));
    let matrix = if across { Matrix::columns(source, wide) } else { Matrix::rows(source, wide) };
    square(kind, &matrix, Part { first: 0, start: 0, ..part }, turned, out, stride);
}

/// Whole squares in the registers of AVX-512.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod wide {
    use std::arch::x86_64::*;

    use super::{
        super::pack::wide::{Square, store},
        BLOCK,
    };
    use crate::quant::{Quantised, Wide};

    /// # Safety
    /// The processor has AVX-512 F, BW, DQ and VL; 16 lines of 16 values lie inside the matrix; `out` has places for 16 rows of 16,
    /// `stride` apart.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn singles(
        weight: &Quantised,
        first: usize,
        apart: usize,
        turned: bool,
        out: &mut [u32],
        stride: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let wide = Wide::new(weight, first);
            let mut r: Square = [_mm512_setzero_si512(); BLOCK];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_castps_si512(wide.values(i, first + i * apart, 0));
            }
            store(r, turned, out, stride);
        }
    }

    /// Pairs of bf16 of lines of 32 values.
    ///
    /// # Safety
    /// As [`singles`], and the processor converts to bf16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn pairs_along(
        weight: &Quantised,
        first: usize,
        apart: usize,
        turned: bool,
        out: &mut [u32],
        stride: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let wide = Wide::new(weight, first);
            let mut r: Square = [_mm512_setzero_si512(); BLOCK];
            for (i, r) in r.iter_mut().enumerate() {
                let at = first + i * apart;
                let both = _mm512_cvtne2ps_pbh(wide.values(i, at, BLOCK), wide.values(i, at, 0));
                *r = std::mem::transmute::<__m512bh, __m512i>(both);
            }
            store(r, turned, out, stride);
        }
    }

    /// Pairs of bf16 that lie in two lines, of 16 values each.
    ///
    /// # Safety
    /// As [`pairs_along`], with 32 lines.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn pairs_across(
        weight: &Quantised,
        first: usize,
        apart: usize,
        turned: bool,
        out: &mut [u32],
        stride: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let wide = Wide::new(weight, first);
            let narrow = |i: usize| {
                let values = wide.values(i, first + i * apart, 0);
                _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)))
            };
            let mut r: Square = [_mm512_setzero_si512(); BLOCK];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_or_si512(narrow(2 * i), _mm512_slli_epi32::<16>(narrow(2 * i + 1)));
            }
            store(r, turned, out, stride);
        }
    }
}
