//! The innermost loops: one or two tiles of 16 rows by a panel of 32 columns, summed over all of the depth.
#![allow(unsafe_code)]

use crate::level::Level;

/// Rows of a tile, and units of depth in a block of a tile or panel.
pub(super) const BLOCK: usize = 16;
/// Columns of a panel.
pub(super) const PANEL: usize = 32;

/// The sums of two tiles by a panel, `[32, 32]`. With one tile only the first 16 rows mean something.
#[repr(C, align(64))]
pub(super) struct Tile(pub [f32; 2 * BLOCK * PANEL]);

impl Tile {
    pub(super) fn new() -> Self {
        Tile([0.0; 2 * BLOCK * PANEL])
    }
}

/// One summand of a product: tiles of `a` by a panel of `b`, both packed. A unit is an f32, or a pair of bf16.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    /// Tile after tile, each `[blocks, 16 rows, 16 units]`.
    pub a: &'a [u32],
    /// Units from one tile to the next.
    pub a_tile: usize,
    /// `[16 · blocks units, 32 columns]`.
    pub b: &'a [u32],
    /// Blocks of 16 units that are multiplied.
    pub blocks: usize,
}

impl Segment<'_> {
    fn check(&self, tiles: usize) {
        assert!(
            self.blocks == 0
                || (tiles - 1) * self.a_tile + self.blocks * BLOCK * BLOCK <= self.a.len()
                    && self.blocks * BLOCK * PANEL <= self.b.len(),
            "the operands must hold all blocks of a product"
        );
    }
}

/// Asks for `count` values to be brought into the second-level cache; what lies outside of memory is never read.
#[inline]
pub(crate) fn prefetch<T>(from: *const T, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..count * size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint; it reads nothing and never fails.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, count);
}

/// A thread that is ready to multiply.
pub(super) struct Multiplier {
    bf16: bool,
    #[cfg(target_arch = "x86_64")]
    level: Level,
    #[cfg(target_arch = "x86_64")]
    tiles: Option<super::amx::Tiles>,
}

impl Multiplier {
    /// For units that are pairs of bf16, which the level must multiply, or f32.
    pub(super) fn new(bf16: bool) -> Self {
        let level = Level::current();
        assert!(!bf16 || level.multiplies_bf16(), "bf16 is packed only where it can be multiplied");
        Multiplier {
            bf16,
            #[cfg(target_arch = "x86_64")]
            level,
            #[cfg(target_arch = "x86_64")]
            tiles: (bf16 && level == Level::Amx).then(super::amx::Tiles::new),
        }
    }

    /// `Σ a b` over the segments, for `tiles` (1 or 2) tiles of rows.
    pub(super) fn multiply(&self, segments: &[Segment], tiles: usize, out: &mut Tile) {
        segments.iter().for_each(|s| s.check(tiles));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(unit) = &self.tiles {
                return unit.multiply(segments, tiles, out);
            }
            // SAFETY: the level in force is one whose instructions the processor has, and the check above keeps every
            // read inside the operands.
            match self.level {
                Level::Portable => {}
                Level::Avx2 => return unsafe { avx2(segments, tiles, out) },
                _ if self.bf16 => return unsafe { avx512_bf16(segments, tiles, out) },
                _ => return unsafe { avx512(segments, tiles, out) },
            }
        }
        debug_assert!(!self.bf16);
        portable(segments, tiles, out);
    }
}

/// Rows whose sums the portable loop keeps in registers.
const ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

fn portable(segments: &[Segment], tiles: usize, out: &mut Tile) {
    const COLUMNS: usize = 8;
    for row in (0..tiles * BLOCK).step_by(ROWS) {
        for column in (0..PANEL).step_by(COLUMNS) {
            let mut sums = [[0f32; COLUMNS]; ROWS];
            for s in segments {
                let a = &s.a[row / BLOCK * s.a_tile + row % BLOCK * BLOCK..];
                for (unit, b) in s.b.chunks_exact(PANEL).take(s.blocks * BLOCK).enumerate() {
                    let Some(b) = b[column..].first_chunk::<COLUMNS>() else { continue };
                    let b = b.map(f32::from_bits);
                    let a = &a[unit / BLOCK * BLOCK * BLOCK + unit % BLOCK..];
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = f32::from_bits(a[r * BLOCK]);
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum =
                                if cfg!(target_arch = "aarch64") { x.mul_add(b, *sum) } else { *sum + x * b };
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                out.0[(row + r) * PANEL + column..][..COLUMNS].copy_from_slice(sums);
            }
        }
    }
}

/// Blocks of a panel that are multiplied with all rows before the next: they stay in the first-level cache meanwhile.
#[cfg(target_arch = "x86_64")]
const CHUNK: usize = 8;

/// The loop of all kinds of vectors. The rows of a tile are taken in groups of `$rows`: as many by `$columns` vectors of sums
/// are kept in registers while a chunk passes by, and in `$out` from one chunk to the next.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_loop {
    (
        $segments:ident, $tiles:ident, $out:ident, [$($rows:literal),+] x $columns:literal of $width:literal,
        $zero:expr, $get:expr, $put:expr, $load:expr, $broadcast:expr, $step:expr $(,)?
    ) => {{
        const COLUMNS: usize = $columns;
        const WIDTH: usize = $width;
        let mut fresh = true;
        for s in $segments {
            for start in (0..s.blocks).step_by(CHUNK) {
                let end = (start + CHUNK).min(s.blocks);
                for tile in 0..$tiles {
                    let mut first = 0;
                    $({
                        const ROWS: usize = $rows;
                        for column in (0..PANEL).step_by(COLUMNS * WIDTH) {
                            // SAFETY: the caller has checked that the tile and the panel hold `blocks` blocks; `out` holds
                            // 32 rows of 32 sums, and the groups make up 16 rows.
                            unsafe {
                                let to = $out.0.as_mut_ptr().add((tile * BLOCK + first) * PANEL + column);
                                let mut sums = [[$zero; COLUMNS]; ROWS];
                                if !fresh {
                                    for (r, sums) in sums.iter_mut().enumerate() {
                                        for (c, sum) in sums.iter_mut().enumerate() {
                                            *sum = $get(to.add(r * PANEL + c * WIDTH));
                                        }
                                    }
                                }
                                for block in start..end {
                                    let a = s.a.as_ptr().add(tile * s.a_tile + (block * BLOCK + first) * BLOCK);
                                    let b = s.b.as_ptr().add(block * BLOCK * PANEL + column);
                                    for unit in 0..BLOCK {
                                        let mut columns = [$zero; COLUMNS];
                                        for (c, column) in columns.iter_mut().enumerate() {
                                            *column = $load(b.add(unit * PANEL + c * WIDTH));
                                        }
                                        for (r, sums) in sums.iter_mut().enumerate() {
                                            let x = $broadcast(a.add(r * BLOCK + unit));
                                            for (sum, column) in sums.iter_mut().zip(columns) {
                                                *sum = $step(*sum, x, column);
                                            }
                                        }
                                    }
                                }
                                for (r, sums) in sums.iter().enumerate() {
                                    for (c, sum) in sums.iter().enumerate() {
                                        $put(to.add(r * PANEL + c * WIDTH), *sum);
                                    }
                                }
                            }
                        }
                        first += ROWS;
                    })+
                    debug_assert_eq!(first, BLOCK, "the groups must make up a tile");
                }
                fresh = false;
            }
        }
        if fresh {
            $out.0.fill(0.0);
        }
    }};
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(segments: &[Segment], tiles: usize, out: &mut Tile) {
    use std::arch::x86_64::*;
    vector_loop!(
        segments, tiles, out, [6, 6, 4] x 2 of 8,
        _mm256_setzero_ps(),
        |p| _mm256_loadu_ps(p),
        |p, v| _mm256_storeu_ps(p, v),
        |p: *const u32| _mm256_loadu_ps(p.cast()),
        |p: *const u32| _mm256_set1_ps(f32::from_bits(*p)),
        |sum, a, b| _mm256_fmadd_ps(a, b, sum),
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(segments: &[Segment], tiles: usize, out: &mut Tile) {
    use std::arch::x86_64::*;
    vector_loop!(
        segments, tiles, out, [8, 8] x 2 of 16,
        _mm512_setzero_ps(),
        |p| _mm512_loadu_ps(p),
        |p, v| _mm512_storeu_ps(p, v),
        |p: *const u32| _mm512_loadu_ps(p.cast()),
        |p: *const u32| _mm512_set1_ps(f32::from_bits(*p)),
        |sum, a, b| _mm512_fmadd_ps(a, b, sum),
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16(segments: &[Segment], tiles: usize, out: &mut Tile) {
    use std::arch::x86_64::*;
    // SAFETY: the vectors are only named differently; every bit pattern is valid in both.
    let pairs = |v: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(v) };
    vector_loop!(
        segments, tiles, out, [8, 8] x 2 of 16,
        _mm512_setzero_ps(),
        |p| _mm512_loadu_ps(p),
        |p, v| _mm512_storeu_ps(p, v),
        |p: *const u32| _mm512_loadu_ps(p.cast()),
        |p: *const u32| _mm512_set1_ps(f32::from_bits(*p)),
        |sum, a, b| _mm512_dpbf16_ps(sum, pairs(a), pairs(b)),
    );
}
