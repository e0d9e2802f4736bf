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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(segments: &[Segment], tiles: usize, out: &mut Tile) {
    use std::arch::x86_64::*;
    const ROWS: usize = 4;
    for row in (0..tiles * BLOCK).step_by(ROWS) {
        for column in (0..PANEL).step_by(16) {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for s in segments {
                for block in 0..s.blocks {
                    // SAFETY: the caller has checked that tile `row / 16` and the panel hold `blocks` blocks.
                    unsafe {
                        let a =
                            s.a.as_ptr()
                                .add(row / BLOCK * s.a_tile + block * BLOCK * BLOCK + row % BLOCK * BLOCK);
                        let b = s.b.as_ptr().add(block * BLOCK * PANEL + column).cast::<f32>();
                        for unit in 0..BLOCK {
                            let b0 = _mm256_loadu_ps(b.add(unit * PANEL));
                            let b1 = _mm256_loadu_ps(b.add(unit * PANEL + 8));
                            for (r, sums) in sums.iter_mut().enumerate() {
                                let x = _mm256_set1_ps(f32::from_bits(*a.add(r * BLOCK + unit)));
                                sums[0] = _mm256_fmadd_ps(x, b0, sums[0]);
                                sums[1] = _mm256_fmadd_ps(x, b1, sums[1]);
                            }
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let to = &mut out.0[(row + r) * PANEL + column..][..16];
                // SAFETY: `to` holds the 16 values written.
                unsafe {
                    _mm256_storeu_ps(to.as_mut_ptr(), sums[0]);
                    _mm256_storeu_ps(to.as_mut_ptr().add(8), sums[1]);
                }
            }
        }
    }
}

/// The loop of both kinds of AVX-512; `$step(sum, a, b)` adds the product of two vectors of units.
#[cfg(target_arch = "x86_64")]
macro_rules! avx512_loop {
    ($segments:ident, $tiles:ident, $out:ident, $step:expr) => {{
        use std::arch::x86_64::*;
        const ROWS: usize = 8;
        for row in (0..$tiles * BLOCK).step_by(ROWS) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for s in $segments {
                for block in 0..s.blocks {
                    // SAFETY: the caller has checked that tile `row / 16` and the panel hold `blocks` blocks.
                    unsafe {
                        let a =
                            s.a.as_ptr()
                                .add(row / BLOCK * s.a_tile + block * BLOCK * BLOCK + row % BLOCK * BLOCK);
                        let b = s.b.as_ptr().add(block * BLOCK * PANEL);
                        for unit in 0..BLOCK {
                            let b0 = _mm512_loadu_si512(b.add(unit * PANEL).cast());
                            let b1 = _mm512_loadu_si512(b.add(unit * PANEL + 16).cast());
                            for (r, sums) in sums.iter_mut().enumerate() {
                                let x = _mm512_set1_epi32(*a.add(r * BLOCK + unit) as i32);
                                sums[0] = $step(sums[0], x, b0);
                                sums[1] = $step(sums[1], x, b1);
                            }
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let to = &mut $out.0[(row + r) * PANEL..][..PANEL];
                // SAFETY: `to` holds the 32 values written.
                unsafe {
                    _mm512_storeu_ps(to.as_mut_ptr(), sums[0]);
                    _mm512_storeu_ps(to.as_mut_ptr().add(16), sums[1]);
                }
            }
        }
    }};
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(segments: &[Segment], tiles: usize, out: &mut Tile) {
    avx512_loop!(segments, tiles, out, |sum, a, b| _mm512_fmadd_ps(
        _mm512_castsi512_ps(a),
        _mm512_castsi512_ps(b),
        sum
    ));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16(segments: &[Segment], tiles: usize, out: &mut Tile) {
    // The vectors are only named differently; every bit pattern is valid in both.
    avx512_loop!(segments, tiles, out, |sum, a: __m512i, b: __m512i| _mm512_dpbf16_ps(
        sum,
        std::mem::transmute::<__m512i, __m512bh>(a),
        std::mem::transmute::<__m512i, __m512bh>(b)
    ));
}
