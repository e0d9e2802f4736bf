//! Matrices brought into the order in which the innermost loops read them, from f32 or bf16, along either side.

use half::bf16;

use super::micro::{BLOCK, PANEL};
use crate::{
    level::{Level, vectorised},
    values::{Values, bf16_bits},
};

/// What the innermost loops multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// f32.
    F32,
    /// Pairs of bf16, summed in f32.
    Bf16,
}

impl Kind {
    /// For a computation in bf16 or in f32: bf16 where the level multiplies it.
    pub(crate) fn of(bf16: bool) -> Self {
        if bf16 && Level::current().multiplies_bf16() { Kind::Bf16 } else { Kind::F32 }
    }

    /// Values in a unit of 32 bits.
    pub(super) const fn per_unit(self) -> usize {
        match self {
            Kind::F32 => 1,
            Kind::Bf16 => 2,
        }
    }

    /// Blocks of 16 units that hold `depth` values.
    pub(super) const fn blocks(self, depth: usize) -> usize {
        depth.div_ceil(BLOCK * self.per_unit())
    }
}

/// An operand as it is stored: lines of `depth` values, over which a product sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: Values<'a>,
    stride: usize,
    /// Whether value `d` of line `i` is at `d · stride + i` instead of at `i · stride + d`.
    across: bool,
}

impl<'a> Matrix<'a> {
    /// Lines that lie one after the other, `stride` values apart.
    pub(crate) fn rows(values: Values<'a>, stride: usize) -> Self {
        Matrix { values, stride, across: false }
    }

    /// Lines that are the columns of a row-major matrix.
    pub(crate) fn columns(values: Values<'a>, stride: usize) -> Self {
        Matrix { values, stride, across: true }
    }

    pub(super) fn holds(&self, lines: usize, depth: usize) -> bool {
        let (far, near) = if self.across { (depth, lines) } else { (lines, depth) };
        far == 0 || near == 0 || (far - 1) * self.stride + near <= self.values.len()
    }
}

/// 16 lines by 16 units, or the other way round.
type Square = [[u32; BLOCK]; BLOCK];

/// Packs `lines` lines from `first` on as a tile: `[blocks, 16 lines, 16 units]`.
pub(super) fn pack_tile(kind: Kind, m: Matrix, first: usize, lines: usize, depth: usize, out: &mut [u32]) {
    pack(kind, m, first, lines, depth, false, out);
}

/// Packs `lines` lines from `first` on as a panel: `[16 · blocks units, 32 lines]`.
pub(super) fn pack_panel(kind: Kind, m: Matrix, first: usize, lines: usize, depth: usize, out: &mut [u32]) {
    pack(kind, m, first, lines, depth, true, out);
}

vectorised! {
    fn pack(kind: Kind, m: Matrix, first: usize, lines: usize, depth: usize, panel: bool, out: &mut [u32]) {
        let wide = kind.per_unit() * BLOCK;
        let size = if panel { PANEL * BLOCK } else { BLOCK * BLOCK };
        for (block, out) in out.chunks_exact_mut(size).take(kind.blocks(depth)).enumerate() {
            let start = block * wide;
            let valid = (depth - start).min(wide);
            for half in 0..if panel { 2 } else { 1 } {
                let lines = lines.saturating_sub(half * BLOCK).min(BLOCK);
                let mut square = [[0u32; BLOCK]; BLOCK];
                if lines == 0 {
                    // What lies beyond the last line is zero.
                } else if m.across {
                    load_columns(kind, &m, first + half * BLOCK, lines, start, valid, &mut square);
                } else {
                    load_rows(kind, &m, first + half * BLOCK, lines, start, valid, &mut square);
                }
                if m.across != panel {
                    transpose(&mut square);
                }
                if panel {
                    for (to, from) in out.chunks_exact_mut(PANEL).zip(&square) {
                        to[half * BLOCK..][..BLOCK].copy_from_slice(from);
                    }
                } else {
                    out.copy_from_slice(square.as_flattened());
                }
            }
        }
    }
}

/// A row of the square for each line. Whole rows, which most are, are read as arrays, so that the compiler knows their
/// length. (It would leave `map` on arrays a call, and compile that for the least capable processor.)
#[inline(always)]
fn load_rows(
    kind: Kind,
    m: &Matrix,
    first: usize,
    lines: usize,
    start: usize,
    valid: usize,
    square: &mut Square,
) {
    for (line, to) in square.iter_mut().enumerate().take(lines) {
        let at = (first + line) * m.stride + start;
        match (kind, m.values) {
            (Kind::F32, Values::F32(v)) => singles(&chunk::<f32, BLOCK>(v, at, valid), f32::to_bits, to),
            (Kind::F32, Values::Bf16(v)) => singles(&chunk(v, at, valid), wide_bits, to),
            (Kind::Bf16, Values::F32(v)) => pairs(&chunk(v, at, valid), bf16_bits, to),
            (Kind::Bf16, Values::Bf16(v)) => pairs(&chunk(v, at, valid), narrow_bits, to),
        }
    }
}

/// A row of the square for each unit.
#[inline(always)]
fn load_columns(
    kind: Kind,
    m: &Matrix,
    first: usize,
    lines: usize,
    start: usize,
    valid: usize,
    square: &mut Square,
) {
    for (unit, to) in square.iter_mut().enumerate().take(valid.div_ceil(kind.per_unit())) {
        let at = (start + unit * kind.per_unit()) * m.stride + first;
        let next = (unit * kind.per_unit() + 1 < valid).then_some(at + m.stride);
        match (kind, m.values) {
            (Kind::F32, Values::F32(v)) => singles(&chunk::<f32, BLOCK>(v, at, lines), f32::to_bits, to),
            (Kind::F32, Values::Bf16(v)) => singles(&chunk(v, at, lines), wide_bits, to),
            (Kind::Bf16, Values::F32(v)) => {
                singles(&chunk(v, at, lines), bf16_bits, to);
                if let Some(next) = next {
                    add_high(&chunk(v, next, lines), bf16_bits, to);
                }
            }
            (Kind::Bf16, Values::Bf16(v)) => {
                singles(&chunk(v, at, lines), narrow_bits, to);
                if let Some(next) = next {
                    add_high(&chunk(v, next, lines), narrow_bits, to);
                }
            }
        }
    }
}

/// `count` values from `at` on, and zeros up to `N`.
#[inline(always)]
fn chunk<T: Copy + Default, const N: usize>(values: &[T], at: usize, count: usize) -> [T; N] {
    if count >= N
        && let Some(whole) = values[at..].first_chunk::<N>()
    {
        return *whole;
    }
    let mut out = [T::default(); N];
    out[..count].copy_from_slice(&values[at..at + count]);
    out
}

#[inline(always)]
fn wide_bits(x: bf16) -> u32 {
    u32::from(x.to_bits()) << 16
}

#[inline(always)]
fn narrow_bits(x: bf16) -> u32 {
    u32::from(x.to_bits())
}

/// A unit for each value.
#[inline(always)]
fn singles<T: Copy>(values: &[T; BLOCK], bits: impl Fn(T) -> u32, to: &mut [u32; BLOCK]) {
    for (to, x) in to.iter_mut().zip(values) {
        *to = bits(*x);
    }
}

/// A unit for each two neighbours, the first in the low half, as the instructions take them.
#[inline(always)]
fn pairs<T: Copy>(values: &[T; 2 * BLOCK], bits: impl Fn(T) -> u32, to: &mut [u32; BLOCK]) {
    for (to, [x, y]) in to.iter_mut().zip(values.as_chunks::<2>().0) {
        *to = bits(*x) | bits(*y) << 16;
    }
}

/// Puts values into the high halves of units.
#[inline(always)]
fn add_high<T: Copy>(values: &[T; BLOCK], bits: impl Fn(T) -> u32, to: &mut [u32; BLOCK]) {
    for (to, x) in to.iter_mut().zip(values) {
        *to |= bits(*x) << 16;
    }
}

fn transpose(square: &mut Square) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    if Level::current() >= Level::Avx512 {
        // SAFETY: the level in force says that the processor has AVX-512 F.
        return unsafe { transpose_avx512(square) };
    }
    let from = *square;
    for (i, row) in square.iter_mut().enumerate() {
        for (to, from) in row.iter_mut().zip(&from) {
            *to = from[i];
        }
    }
}

/// Pairs, then fours, then eights of rows are interleaved, then the four quarters of each vector are put in order.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
fn transpose_avx512(square: &mut Square) {
    use std::arch::x86_64::*;
    let mut r = [_mm512_setzero_si512(); 16];
    for (r, row) in r.iter_mut().zip(square.iter()) {
        // SAFETY: a row is 64 readable bytes.
        *r = unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
    }
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in (0..16).step_by(4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for i in 0..4 {
        let even = |x, y| _mm512_shuffle_i32x4::<0x88>(x, y);
        let odd = |x, y| _mm512_shuffle_i32x4::<0xdd>(x, y);
        let (a, b) = (even(r[i], r[4 + i]), even(r[8 + i], r[12 + i]));
        let (c, d) = (odd(r[i], r[4 + i]), odd(r[8 + i], r[12 + i]));
        (t[i], t[8 + i]) = (even(a, b), odd(a, b));
        (t[4 + i], t[12 + i]) = (even(c, d), odd(c, d));
    }
    for (row, t) in square.iter_mut().zip(t) {
        // SAFETY: a row is 64 writable bytes.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), t) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_transposed() {
        let mut square = [[0u32; BLOCK]; BLOCK];
        (0..).zip(square.as_flattened_mut()).for_each(|(i, v)| *v = i);
        let before = square;
        transpose(&mut square);
        for (i, row) in square.iter().enumerate() {
            for (j, &v) in row.iter().enumerate() {
                assert_eq!(v, before[j][i], "row {i}, column {j}");
            }
        }
    }
}
