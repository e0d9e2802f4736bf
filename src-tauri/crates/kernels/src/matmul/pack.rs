//! Matrices brought into the order in which the innermost loops read them, from f32 or bf16, along either side.

use half::bf16;

use super::{
    micro::{BLOCK, PANEL, prefetch},
    quantised::{Lines, quantised_square},
};
use crate::{
    frozen_weight::Source,
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
    source: Source<'a>,
    stride: usize,
    /// Whether value `d` of line `i` is at `d · stride + i` instead of at `i · stride + d`.
    across: bool,
}

impl<'a> Matrix<'a> {
    /// Lines that lie one after the other, `stride` values apart.
    pub(crate) fn rows(source: impl Into<Source<'a>>, stride: usize) -> Self {
        Matrix { source: source.into(), stride, across: false }
    }

    /// Lines that are the columns of a row-major matrix.
    pub(crate) fn columns(source: impl Into<Source<'a>>, stride: usize) -> Self {
        Matrix { source: source.into(), stride, across: true }
    }

    /// The same lines without their first `depth` values.
    pub(super) fn past(self, depth: usize) -> Self {
        let skipped = if self.across { depth * self.stride } else { depth };
        Matrix { source: self.source.from(skipped), ..self }
    }

    /// Asks for `count` values from `at` on, which need not be there.
    fn prefetch(&self, at: usize, count: usize) {
        match self.source {
            Source::Values(Values::F32(v)) => prefetch(v.as_ptr().wrapping_add(at), count),
            Source::Values(Values::Bf16(v)) => prefetch(v.as_ptr().wrapping_add(at), count),
            Source::Quantised { weight, start, .. } => weight.prefetch(start + at, count),
        }
    }

    pub(super) fn holds(&self, lines: usize, depth: usize) -> bool {
        let (far, near) = if self.across { (depth, lines) } else { (lines, depth) };
        far == 0 || near == 0 || (far - 1) * self.stride + near <= self.source.len()
    }
}

/// Blocks between the one that is packed and the one that is fetched meanwhile, where lines are read along.
const AHEAD: usize = 4;

/// 16 lines by 16 units, or the other way round.
type Square = [[u32; BLOCK]; BLOCK];

/// Which lines become panels.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The first of them.
    pub first: usize,
    /// The line after the last; what lies beyond it is zero.
    pub end: usize,
    /// Panels of 32 lines each.
    pub panels: usize,
    /// Units from one panel to the next.
    pub stride: usize,
}

/// Packs `lines` lines from `first` on as a tile: `[blocks, 16 lines, 16 units]`.
pub(super) fn pack_tile(kind: Kind, m: Matrix, first: usize, lines: usize, depth: usize, out: &mut [u32]) {
    for (block, out) in out.chunks_exact_mut(BLOCK * BLOCK).take(kind.blocks(depth)).enumerate() {
        let start = block * BLOCK * kind.per_unit();
        let part = Part { first, lines, start, valid: (depth - start).min(BLOCK * kind.per_unit()) };
        square(kind, &m, part, m.across, out, BLOCK);
    }
}

/// Packs lines as panels: `[16 · blocks units, 32 lines]` each.
pub(super) fn pack_panels(kind: Kind, m: Matrix, columns: Columns, depth: usize, out: &mut [u32]) {
    let (blocks, wide) = (kind.blocks(depth), BLOCK * kind.per_unit());
    let mut block = |panel: usize, block: usize| {
        let (first, start) = (columns.first + panel * PANEL, block * wide);
        let out = &mut out[panel * columns.stride + block * BLOCK * PANEL..][..BLOCK * PANEL];
        for half in 0..2 {
            let first = first + half * BLOCK;
            let lines = columns.end.saturating_sub(first).min(BLOCK);
            let part = Part { first, lines, start, valid: (depth - start).min(wide) };
            square(kind, &m, part, !m.across, &mut out[half * BLOCK..], PANEL);
        }
        // Lines far apart are not foreseen by the processor.
        if m.across {
            (start + wide..start + 2 * wide).for_each(|d| m.prefetch(d * m.stride + first, PANEL));
        } else {
            (first..first + PANEL).for_each(|line| m.prefetch(line * m.stride + start + AHEAD * wide, wide));
        }
    };
    // In the order in which the values lie in memory.
    if m.across {
        (0..blocks).for_each(|b| (0..columns.panels).for_each(|panel| block(panel, b)));
    } else {
        (0..columns.panels).for_each(|panel| (0..blocks).for_each(|b| block(panel, b)));
    }
}

/// Up to 16 lines and up to 16 units of each; what is missing becomes zero.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub first: usize,
    pub lines: usize,
    /// Where in the depth it starts.
    pub start: usize,
    /// Values of each line.
    pub valid: usize,
}

/// Writes a part, which is turned round if `turned`, to `out`, where a row starts every `stride` units.
pub(super) fn square(kind: Kind, m: &Matrix, part: Part, turned: bool, out: &mut [u32], stride: usize) {
    assert!(out.len() >= (BLOCK - 1) * stride + BLOCK, "a square must have its place");
    if part.lines == 0 {
        // Beyond the last line.
        return out.chunks_mut(stride).take(BLOCK).for_each(|row| row[..BLOCK].fill(0));
    }
    let values = match m.source {
        Source::Values(values) => values,
        Source::Quantised { weight, start, .. } => {
            let lines = Lines { weight, start, stride: m.stride, across: m.across };
            return quantised_square(kind, lines, part, turned, out, stride);
        }
    };
    let m = &Plain { values, stride: m.stride, across: m.across };
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    if Level::current() >= Level::Avx512 {
        // SAFETY: the level in force says that the processor has AVX-512 F, BW, DQ and VL; that it multiplies bf16, where
        // units are pairs of those; the assertion above is what both functions ask for.
        return unsafe {
            match kind {
                Kind::F32 => wide::square_f32(m, part, turned, out, stride),
                Kind::Bf16 => wide::square_bf16(m, part, turned, out, stride),
            }
        };
    }
    narrow_square(kind, m, part, turned, out, stride);
}

/// A matrix of plain numbers.
struct Plain<'a> {
    values: Values<'a>,
    stride: usize,
    across: bool,
}

vectorised! {
    fn narrow_square(kind: Kind, m: &Plain, part: Part, turned: bool, out: &mut [u32], stride: usize) {
        let mut square = [[0u32; BLOCK]; BLOCK];
        if m.across {
            load_columns(kind, m, part, &mut square);
        } else {
            load_rows(kind, m, part, &mut square);
        }
        if turned {
            turn(&square, out, stride);
        } else {
            out.chunks_mut(stride).zip(&square).for_each(|(to, from)| to[..BLOCK].copy_from_slice(from));
        }
    }
}

/// Writes columns as rows.
fn turn(square: &Square, out: &mut [u32], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    if Level::current() >= Level::Avx2 {
        // SAFETY: the level in force says that the processor has AVX2; `square` has seen that all rows have their place.
        return unsafe { turn_avx2(square, out, stride) };
    }
    for (i, to) in out.chunks_mut(stride).take(BLOCK).enumerate() {
        to.iter_mut().zip(square).for_each(|(to, from)| *to = from[i]);
    }
}

/// Four squares of 8 by 8: pairs, then fours of rows are interleaved, then the halves of each vector are put in order.
///
/// # Safety
/// The processor has AVX2; `out` has places for 16 rows of 16, `stride` apart.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
unsafe fn turn_avx2(square: &Square, out: &mut [u32], stride: usize) {
    use std::arch::x86_64::*;
    const HALF: usize = BLOCK / 2;
    for (top, left) in [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)] {
        let mut r = [_mm256_setzero_si256(); HALF];
        for (r, row) in r.iter_mut().zip(&square[top..]) {
            // SAFETY: 8 of a row's 16 units.
            *r = unsafe { _mm256_loadu_si256(row.as_ptr().add(left).cast()) };
        }
        let mut t = r;
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        for i in [0, 4] {
            r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
            r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
            r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
            r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
        }
        for i in 0..4 {
            t[i] = _mm256_permute2x128_si256::<0x20>(r[i], r[i + 4]);
            t[i + 4] = _mm256_permute2x128_si256::<0x31>(r[i], r[i + 4]);
        }
        for (i, row) in t.into_iter().enumerate() {
            // SAFETY: 8 places of one of the 16 rows that the caller has room for.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().add((left + i) * stride + top).cast(), row) };
        }
    }
}

/// A row of the square for each line. Whole rows, which most are, are read as arrays, so that the compiler knows their
/// length. (It would leave `map` on arrays a call, and compile that for the least capable processor.)
#[inline(always)]
fn load_rows(kind: Kind, m: &Plain, part: Part, square: &mut Square) {
    let Part { first, lines, start, valid } = part;
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
fn load_columns(kind: Kind, m: &Plain, part: Part, square: &mut Square) {
    let Part { first, lines, start, valid } = part;
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

/// The same in the registers of AVX-512, where most squares are whole.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(super) mod wide {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{BLOCK, Part, Plain};
    use crate::values::Values;

    pub(in crate::matmul) type Square = [__m512i; BLOCK];

    /// The lowest `count` bits.
    fn mask(count: usize) -> u32 {
        if count >= 32 { u32::MAX } else { (1 << count) - 1 }
    }

    /// `$count` rows, each by `$row(i)`; whole squares in a loop that the compiler unrolls into registers.
    macro_rules! rows {
        ($count:expr, $row:expr) => {{
            let mut r = [_mm512_setzero_si512(); BLOCK];
            if $count == BLOCK {
                for (i, r) in r.iter_mut().enumerate() {
                    *r = $row(i);
                }
            } else {
                for (i, r) in r.iter_mut().enumerate().take($count) {
                    *r = $row(i);
                }
            }
            r
        }};
    }

    /// # Safety
    /// The processor has the features; `out` has places for 16 rows of 16, `stride` apart.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn square_f32(m: &Plain, part: Part, turned: bool, out: &mut [u32], stride: usize) {
        let Part { first, lines, start, valid } = part;
        let (count, width) = if m.across { (valid, lines) } else { (lines, valid) };
        let at = if m.across { start * m.stride + first } else { first * m.stride + start };
        let mask = mask(width) as __mmask16;
        // SAFETY: the slices hold what the masks let through.
        let r = unsafe {
            match m.values {
                Values::F32(v) => {
                    rows!(count, |i| _mm512_maskz_loadu_epi32(mask, line(v, at + i * m.stride, width).cast()))
                }
                Values::Bf16(v) => rows!(count, |i| _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                    _mm256_maskz_loadu_epi16(mask, line(v, at + i * m.stride, width).cast())
                ))),
            }
        };
        // SAFETY: the caller's promise.
        unsafe { store(r, turned, out, stride) };
    }

    /// Pairs of bf16.
    ///
    /// # Safety
    /// As [`square_f32`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn square_bf16(m: &Plain, part: Part, turned: bool, out: &mut [u32], stride: usize) {
        let Part { first, lines, start, valid } = part;
        let r = if m.across {
            let mask = mask(lines) as __mmask16;
            let at = |unit: usize, odd: usize| (start + 2 * unit + odd) * m.stride + first;
            let pair = |low: __m256i, high: __m256i| {
                let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
                _mm512_or_si512(_mm512_cvtepu16_epi32(low), high)
            };
            // SAFETY: the slices hold what the masks let through.
            unsafe {
                match m.values {
                    Values::F32(v) => {
                        let load = |at| {
                            let wide = _mm512_maskz_loadu_ps(mask, line::<f32>(v, at, lines));
                            std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(wide))
                        };
                        let both = |i| pair(load(at(i, 0)), load(at(i, 1)));
                        let mut r = rows!(valid / 2, both);
                        if valid % 2 == 1 {
                            r[valid / 2] = pair(load(at(valid / 2, 0)), _mm256_setzero_si256());
                        }
                        r
                    }
                    Values::Bf16(v) => {
                        let load = |at| _mm256_maskz_loadu_epi16(mask, line::<bf16>(v, at, lines).cast());
                        let both = |i| pair(load(at(i, 0)), load(at(i, 1)));
                        let mut r = rows!(valid / 2, both);
                        if valid % 2 == 1 {
                            r[valid / 2] = pair(load(at(valid / 2, 0)), _mm256_setzero_si256());
                        }
                        r
                    }
                }
            }
        } else {
            let (low, high) = (mask(valid) as __mmask16, (mask(valid) >> 16) as __mmask16);
            // SAFETY: the slices hold what the masks let through; nothing is read beyond, where the upper half is empty.
            unsafe {
                match m.values {
                    Values::F32(v) => rows!(lines, |i| {
                        let from = line(v, (first + i) * m.stride + start, valid);
                        let high = _mm512_maskz_loadu_ps(high, from.wrapping_add(BLOCK));
                        let both = _mm512_cvtne2ps_pbh(high, _mm512_maskz_loadu_ps(low, from));
                        std::mem::transmute::<__m512bh, __m512i>(both)
                    }),
                    Values::Bf16(v) => rows!(lines, |i| _mm512_maskz_loadu_epi16(
                        mask(valid),
                        line(v, (first + i) * m.stride + start, valid).cast()
                    )),
                }
            }
        };
        // SAFETY: the caller's promise.
        unsafe { store(r, turned, out, stride) };
    }

    /// Where `count` values from `at` on lie.
    #[inline(always)]
    fn line<T>(values: &[T], at: usize, count: usize) -> *const T {
        values[at..at + count].as_ptr()
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::matmul) unsafe fn store(r: Square, turned: bool, out: &mut [u32], stride: usize) {
        let r = if turned { transposed(r) } else { r };
        for (i, row) in r.into_iter().enumerate() {
            // SAFETY: the caller has room for 16 rows of 64 bytes.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(i * stride).cast(), row) };
        }
    }

    /// Pairs, then fours, then eights of rows are interleaved, then the four quarters of each vector are put in order.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transposed(mut r: Square) -> Square {
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
        t
    }
}
