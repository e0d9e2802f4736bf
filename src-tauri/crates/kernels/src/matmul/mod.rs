//! Matrix products for the fused operations: `out = Σ aᵢ bᵢ`, where `a` is packed once and used often, and `b` (mostly a
//! frozen weight) is packed a panel at a time as it is consumed, from the one copy there is of it.
//!
//! Rows of `a` are packed in tiles of 16, columns of `b` in panels of 32; both are padded with zeros. Several summands,
//! such as `x Wᵀ` and `u Bᵀ` of a low-rank adaptation, are summed in registers. Each row of the result depends on its own
//! row of `a` alone, in the same order of summation wherever the row lies.

pub(crate) mod amx;
mod micro;
mod output;
mod pack;
mod quantised;

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

pub(crate) use self::{
    micro::prefetch,
    output::{Add, Output, Shared},
    pack::{Kind, Matrix},
};
use self::{
    micro::{BLOCK, Multiplier, PANEL, Segment, Tile},
    pack::{Columns, pack_panels, pack_tile},
};
use crate::{buffer::Buffer, values::Values};

/// Bytes of packed panels that one job keeps: they stay in the second-level cache while the rows pass by.
const PANELS: usize = 768 << 10;
/// Panels of one job at least: for so many columns together are the rows read, from beyond the cache where they are many.
/// Where their depth is too great for as many to stay in the cache, a product is computed in parts of the depth.
const LEAST_PANELS: usize = 8;
/// Jobs for each thread, so that one that is held up has less to do.
const JOBS: usize = 2;

/// Packed rows of a left operand.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    units: Buffer<u32>,
    rows: usize,
    depth: usize,
    kind: Option<Kind>,
}

impl Packed {
    /// Packs `rows` lines of `depth` values on all threads.
    pub(crate) fn new(kind: Kind, m: Matrix, rows: usize, depth: usize) -> Self {
        assert!(m.holds(rows, depth), "a matrix must hold all of its values");
        let mut packed = Packed { units: Buffer::default(), rows, depth, kind: Some(kind) };
        let tile = packed.tile();
        packed.units.resize(rows.div_ceil(BLOCK) * tile);
        packed.units.par_chunks_exact_mut(tile.max(1)).enumerate().for_each(|(tile, out)| {
            pack_tile(kind, m, tile * BLOCK, (rows - tile * BLOCK).min(BLOCK), depth, out);
        });
        packed
    }

    /// Packs rows that `fill(row, values)` computes, on all threads.
    pub(crate) fn from_rows(
        kind: Kind,
        rows: usize,
        depth: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let mut packed = Packed { units: Buffer::default(), rows, depth, kind: Some(kind) };
        let tile = packed.tile();
        packed.units.resize(rows.div_ceil(BLOCK) * tile);
        let scratch = || Buffer::<f32>::any(BLOCK * depth);
        packed.units.par_chunks_exact_mut(tile.max(1)).enumerate().for_each_init(
            scratch,
            |scratch, (tile, out)| {
                let lines = (rows - tile * BLOCK).min(BLOCK);
                for (line, row) in scratch.chunks_exact_mut(depth).take(lines).enumerate() {
                    fill(tile * BLOCK + line, row);
                }
                pack_tile(kind, Matrix::rows(Values::F32(scratch), depth), 0, lines, depth, out);
            },
        );
        packed
    }

    /// Packs on this thread, into the same memory.
    pub(crate) fn pack(&mut self, kind: Kind, m: Matrix, rows: usize, depth: usize) {
        assert!(m.holds(rows, depth), "a matrix must hold all of its values");
        (self.rows, self.depth, self.kind) = (rows, depth, Some(kind));
        let (tile, needed) = (self.tile(), rows.div_ceil(BLOCK) * self.tile());
        self.units.resize(needed);
        for (i, out) in self.units.chunks_exact_mut(tile.max(1)).take(rows.div_ceil(BLOCK)).enumerate() {
            pack_tile(kind, m, i * BLOCK, (rows - i * BLOCK).min(BLOCK), depth, out);
        }
    }

    fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::F32)
    }

    fn blocks(&self) -> usize {
        self.kind().blocks(self.depth)
    }

    /// Units of a tile.
    fn tile(&self) -> usize {
        self.blocks() * BLOCK * BLOCK
    }
}

/// Packed columns of a right operand.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    units: Buffer<u32>,
    columns: usize,
    depth: usize,
    kind: Option<Kind>,
}

impl Panels {
    /// Packs on this thread, into the same memory.
    pub(crate) fn pack(&mut self, kind: Kind, m: Matrix, columns: usize, depth: usize) {
        assert!(m.holds(columns, depth), "a matrix must hold all of its values");
        (self.columns, self.depth, self.kind) = (columns, depth, Some(kind));
        let (panel, panels) = (self.panel(), columns.div_ceil(PANEL));
        self.units.resize(panels * panel);
        let all = Columns { first: 0, end: columns, panels, stride: panel };
        pack_panels(kind, m, all, depth, &mut self.units);
    }

    /// Units of a panel.
    fn panel(&self) -> usize {
        self.kind.unwrap_or(Kind::F32).blocks(self.depth) * BLOCK * PANEL
    }
}

/// `out (+)= a b` on this thread, where `b` may be wider and deeper: its columns from `column` on, as many as `columns`,
/// and its depth from `depth` on are used. Both starts are multiples of 32.
pub(crate) fn multiply_part(
    a: &Packed,
    b: &Panels,
    column: usize,
    columns: usize,
    depth: usize,
    out: Output,
) {
    assert!(column.is_multiple_of(PANEL) && depth.is_multiple_of(PANEL), "parts start at whole blocks");
    assert!(column + columns <= b.columns && depth + a.depth <= b.depth, "a part lies inside the whole");
    assert!(a.kind == b.kind, "operands must be packed alike");
    out.check(a.rows, columns);
    let multiplier = Multiplier::new(a.kind() == Kind::Bf16);
    let skipped = depth / (BLOCK * a.kind().per_unit());
    let mut sums = Tile::new();
    for n in (0..columns).step_by(PANEL) {
        let panel = &b.units[(column + n) / PANEL * b.panel()..][skipped * BLOCK * PANEL..];
        for row in (0..a.rows).step_by(2 * BLOCK) {
            let height = (a.rows - row).min(2 * BLOCK);
            let own = &a.units[row / BLOCK * a.tile()..];
            let segment = Segment { a: own, a_tile: a.tile(), b: panel, blocks: a.blocks() };
            multiplier.multiply(&[segment], height.div_ceil(BLOCK), &mut sums);
            out.write(row, height, n, (columns - n).min(PANEL), &sums);
        }
    }
}

/// One summand: packed rows by lines that are the columns of the right operand.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub a: &'a Packed,
    pub b: Matrix<'a>,
}

/// `out (+)= Σ a b`, `columns` wide, on all threads.
pub(crate) fn multiply(products: &[Product], columns: usize, mut out: Output) {
    let Some(first) = products.first() else { return };
    let (m, kind) = (first.a.rows, first.a.kind());
    for Product { a, b } in products {
        assert!(a.rows == m && a.kind() == kind, "summands must be of one height and kind");
        assert!(b.holds(columns, a.depth), "a matrix must hold all of its values");
    }
    out.check(m, columns);
    if m == 0 || columns == 0 {
        return;
    }
    let blocks: usize = products.iter().map(|p| p.a.blocks()).sum();
    let most = PANELS / LEAST_PANELS / (4 * BLOCK * PANEL);
    // Sums of several parts meet in the result, which must not round them.
    let parts = if out.is_f32() { blocks.div_ceil(most).max(1) } else { 1 };
    let each = blocks.div_ceil(parts).max(1);
    for start in (0..blocks).step_by(each) {
        multiply_all(&in_depth(products, start..start + each), m, kind, columns, &out);
        out = out.once_more();
    }
}

/// What of the summands lies in some blocks of the depth of all of them, one after the other.
fn in_depth<'a>(products: &[Product<'a>], wanted: Range<usize>) -> Vec<Deep<'a>> {
    let mut before = 0;
    let mut found = Vec::with_capacity(products.len());
    for &Product { a, b } in products {
        let own = before..before + a.blocks();
        let (from, to) = (wanted.start.max(own.start), wanted.end.min(own.end));
        if from < to {
            let (first, wide) = (from - own.start, BLOCK * a.kind().per_unit());
            let depth = ((to - own.start) * wide).min(a.depth) - first * wide;
            found.push(Deep { a, first, blocks: to - from, b: b.past(first * wide), depth });
        }
        before = own.end;
    }
    found
}

/// A part of a summand: some blocks of its depth.
#[derive(Clone, Copy)]
struct Deep<'a> {
    a: &'a Packed,
    first: usize,
    blocks: usize,
    b: Matrix<'a>,
    depth: usize,
}

impl<'a> Deep<'a> {
    /// Up to two tiles of rows from `row` on, by a panel that is packed.
    fn segment(&self, row: usize, panel: &'a [u32]) -> Segment<'a> {
        let a = &self.a.units[row / BLOCK * self.a.tile() + self.first * BLOCK * BLOCK..];
        Segment { a, a_tile: self.a.tile(), b: panel, blocks: self.blocks }
    }

    /// Asks for one of `count` shares of the two tiles of rows from `row` on, where there are more rows.
    fn prefetch(&self, row: usize, share: usize, count: usize) {
        let len = self.blocks * BLOCK * BLOCK;
        let part = len.div_ceil(count);
        for tile in [row / BLOCK, row / BLOCK + 1] {
            let at = tile * self.a.tile() + self.first * BLOCK * BLOCK + share * part;
            prefetch(self.a.units.as_ptr().wrapping_add(at), part.min(len));
        }
    }
}

/// The product in one part.
fn multiply_all(products: &[Deep], m: usize, kind: Kind, columns: usize, out: &Output) {
    let units: usize = products.iter().map(|p| p.blocks * BLOCK * PANEL).sum();
    let panels = columns.div_ceil(PANEL);
    let threads = rayon::current_num_threads();
    // Wide enough to read the rows seldom, narrow enough to stay in the cache and for every thread to have as many.
    let most = (PANELS / (4 * units).max(1)).max(1);
    let groups = panels.div_ceil(most).next_multiple_of(JOBS * threads).min(panels);
    let group = panels.div_ceil(groups);
    let groups = panels.div_ceil(group);
    // Where there are few columns, the rows are shared out too.
    let pairs = m.div_ceil(2 * BLOCK);
    let parts = if groups >= threads { 1 } else { (JOBS * threads).div_ceil(groups).min(pairs) };
    let height = pairs.div_ceil(parts) * 2 * BLOCK;
    let job = |packed: &mut Buffer<u32>, job: usize| {
        let (panel, part) = (job / parts * group, job % parts);
        let count = group.min(panels - panel);
        packed.resize(group * units);
        let mut at = 0;
        for Deep { b, blocks, depth, .. } in products {
            let own = Columns { first: panel * PANEL, end: columns, panels: count, stride: units };
            pack_panels(kind, *b, own, *depth, &mut packed[at..]);
            at += blocks * BLOCK * PANEL;
        }
        let multiplier = Multiplier::new(kind == Kind::Bf16);
        let mut sums = Tile::new();
        let last = m.min((part + 1) * height);
        for row in (part * height..last).step_by(2 * BLOCK) {
            for (i, space) in packed.chunks_exact(units.max(1)).take(count).enumerate() {
                // While a panel passes by, a part of the rows that come next is fetched.
                if let Some(first) = products.first() {
                    first.prefetch(row + 2 * BLOCK, i, count);
                }
                let mut segments = [Segment { a: &[], a_tile: 0, b: &[], blocks: 0 }; MOST];
                let mut at = 0;
                for (segment, product) in segments.iter_mut().zip(products) {
                    let size = product.blocks * BLOCK * PANEL;
                    *segment = product.segment(row, &space[at..at + size]);
                    at += size;
                }
                let n = (panel + i) * PANEL;
                let wide = (columns - n).min(PANEL);
                let height = (last - row).min(2 * BLOCK);
                multiplier.multiply(&segments[..products.len()], height.div_ceil(BLOCK), &mut sums);
                out.write(row, height, n, wide, &sums);
            }
        }
    };
    (0..groups * parts)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|index| PACKED.with_borrow_mut(|packed| job(packed, index)));
}

thread_local! {
    /// The panels that a thread has packed; kept, because every product needs as many.
    static PACKED: RefCell<Buffer<u32>> = RefCell::default();
}

/// Most summands of a product: three linear layers that share an input, and their adapters.
const MOST: usize = 6;

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::{Codes, Quantised, frozen_weight::Source};

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mixed = |i: u32| (i ^ salt.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) ^ 0x55;
        let value = |i: u32| (mixed(i).wrapping_mul(mixed(i) | 1) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        // Numbers that bf16 holds exactly, so that both kinds have the same sums.
        (0..count as u32).map(|i| bf16::from_f32(value(i)).to_f32()).collect()
    }

    /// Lines by depth, in either order, as f32 or bf16.
    struct Stored(Vec<f32>, Vec<bf16>, usize);

    impl Stored {
        fn new(lines: usize, depth: usize, across: bool, values: &[f32]) -> Self {
            let stride = if across { lines + 3 } else { depth + 3 };
            let mut all = vec![7.0; stride * if across { depth } else { lines }];
            for line in 0..lines {
                for d in 0..depth {
                    all[if across { d * stride + line } else { line * stride + d }] =
                        values[line * depth + d];
                }
            }
            let narrow = all.iter().map(|&v| bf16::from_f32(v)).collect();
            Stored(all, narrow, stride)
        }

        fn matrix(&self, across: bool, narrow: bool) -> Matrix<'_> {
            let values = if narrow { Values::Bf16(&self.1) } else { Values::F32(&self.0) };
            if across { Matrix::columns(values, self.2) } else { Matrix::rows(values, self.2) }
        }
    }

    #[test]
    fn products_are_sums_of_products_in_every_layout() {
        for (m, n, depth, more) in [
            (1, 1, 1, 1),
            (3, 5, 17, 16),
            (33, 70, 65, 3),
            (70, 33, 31, 40),
            (16, 32, 64, 8),
            (3, 33, 3333, 2000),
        ] {
            let (a, b) = (numbers(m * depth, 1), numbers(n * depth, 2));
            let (c, d) = (numbers(m * more, 3), numbers(n * more, 4));
            let dot = |a: &[f32], b: &[f32], depth: usize, i: usize, j: usize| -> f64 {
                (0..depth).map(|d| f64::from(a[i * depth + d]) * f64::from(b[j * depth + d])).sum()
            };
            for combination in 0..32 {
                let bit = |i: u32| combination >> i & 1 == 1;
                let kind = Kind::of(bit(0));
                let stored = [(m, depth, &a), (n, depth, &b), (m, more, &c), (n, more, &d)]
                    .map(|(l, d, v)| (Stored::new(l, d, bit(1), v), Stored::new(l, d, bit(2), v)));
                let left = |i: usize| stored[i].0.matrix(bit(1), bit(3));
                let right = |i: usize| stored[i].1.matrix(bit(2), bit(4));
                let (first, second) =
                    (Packed::new(kind, left(0), m, depth), Packed::new(kind, left(2), m, more));
                let products = [Product { a: &first, b: right(1) }, Product { a: &second, b: right(3) }];
                let (stride, base) = (n + 5, numbers(m * (n + 5), 5));
                let bias = numbers(n, 6);
                let mut out = base.clone();
                let place = Output::new(crate::values::ValuesMut::F32(&mut out), stride, 2);
                multiply(&products, n, place.scale(0.5).bias(Some(&bias)).add(Add::Itself));
                for i in 0..m {
                    for j in 0..stride {
                        let before = f64::from(base[i * stride + j]);
                        let want = if (2..n + 2).contains(&j) {
                            let sum = dot(&a, &b, depth, i, j - 2) + dot(&c, &d, more, i, j - 2);
                            before + 0.5 * sum + f64::from(bias[j - 2])
                        } else {
                            before
                        };
                        let got = f64::from(out[i * stride + j]);
                        assert!(
                            (got - want).abs() < 1e-4 + 1e-6 * (depth + more) as f64,
                            "{kind:?} {m}x{n}x{depth} case {combination} [{i},{j}]: {got}, not {want}"
                        );
                    }
                }
                let mut narrow = vec![bf16::ZERO; m * n];
                multiply(&products[..1], n, Output::new(crate::values::ValuesMut::Bf16(&mut narrow), n, 0));
                for (place, got) in narrow.iter().enumerate() {
                    let want = dot(&a, &b, depth, place / n, place % n) as f32;
                    assert!(
                        (got.to_f32() - want).abs() <= 0.005 * want.abs() + 1e-4,
                        "rounded: {got}, not {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn quantised_operands_are_the_values_they_stand_for_to_the_bit() {
        let m = 40;
        for (rows, columns) in [(70, 96), (64, 128), (33, 65), (200, 640), (3, 7)] {
            for (codes, nested) in
                [(Codes::Nf4, false), (Codes::Nf4, true), (Codes::Fp4, false), (Codes::Int8, false)]
            {
                let plain = numbers(rows * columns, 3);
                let weight = Quantised::new(codes, nested, (rows, columns), &plain).unwrap();
                let wide = weight.to_vec();
                for (across, bf16) in [(false, false), (false, true), (true, false), (true, true)] {
                    let kind = Kind::of(bf16);
                    let (n, depth) = if across { (columns, rows) } else { (rows, columns) };
                    let a = numbers(m * depth, 4);
                    let a = Packed::new(kind, Matrix::rows(Values::F32(&a), depth), m, depth);
                    let product = |source: Source| {
                        let b = if across {
                            Matrix::columns(source, columns)
                        } else {
                            Matrix::rows(source, columns)
                        };
                        let mut out = vec![0f32; m * n];
                        multiply(&[Product { a: &a, b }], n, Output::f32(&mut out, n));
                        out
                    };
                    let got = product(Source::Quantised { weight: &weight, bf16, start: 0 });
                    let want = product(Source::Values(Values::F32(&wide)));
                    assert_eq!(got, want, "{codes:?} [{rows}, {columns}], across {across}, {kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_packed_operand_multiplies_alone() {
        let (m, columns, depth) = (40, 100, 130);
        for narrow in [false, true] {
            let kind = Kind::of(narrow);
            let (a, b) = (numbers(m * 50, 1), numbers(columns * depth, 2));
            let mut panels = Panels::default();
            panels.pack(kind, Matrix::rows(Values::F32(&b), depth), columns, depth);
            let mut packed = Packed::default();
            packed.pack(kind, Matrix::rows(Values::F32(&a), 50), m, 50);
            let mut out = vec![0f32; m * 40];
            multiply_part(&packed, &panels, 32, 40, 64, Output::f32(&mut out, 40));
            for (i, j) in (0..m).flat_map(|i| (0..40).map(move |j| (i, j))) {
                let want: f32 = (0..50).map(|d| a[i * 50 + d] * b[(32 + j) * depth + 64 + d]).sum();
                assert!((out[i * 40 + j] - want).abs() < 1e-4, "{kind:?} [{i},{j}]");
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_where_it_lies() {
        let (depth, n) = (77, 45);
        let (b, row) = (numbers(n * depth, 2), numbers(depth, 1));
        for narrow in [false, true] {
            let kind = Kind::of(narrow);
            let product = |m: usize, at: usize| {
                let mut a = numbers(m * depth, 9);
                a[at * depth..(at + 1) * depth].copy_from_slice(&row);
                let packed = Packed::new(kind, Matrix::rows(Values::F32(&a), depth), m, depth);
                let mut out = vec![0f32; m * n];
                multiply(
                    &[Product { a: &packed, b: Matrix::rows(Values::F32(&b), depth) }],
                    n,
                    Output::f32(&mut out, n),
                );
                out[at * n..(at + 1) * n].to_vec()
            };
            let alone = product(1, 0);
            for (m, at) in [(2, 1), (40, 17), (200, 150)] {
                assert_eq!(product(m, at), alone, "{kind:?}: row {at} of {m}");
            }
        }
    }
}
