//! Products with one vector, as a token of a chat needs them: each weight is read once, in the form it is kept in, and
//! that is all they cost.
#![allow(unsafe_code)]

use half::bf16;
use rayon::prelude::*;

use crate::{buffer::Buffer, frozen_weight::Source, level::vectorised, values::Values};

/// Rows of a weight that are multiplied at a time: so many streams are read beside each other, and share the vector.
const ROWS: usize = 4;
/// Values of each row: two vectors' worth, since each addition waits for the one before it.
const LANES: usize = 32;
/// Values of a weight that a thread multiplies at a time: fewer are not worth waking another thread for.
const PART: usize = 1 << 15;

/// Bytes that are asked for before they are multiplied: memory answers late, and what the processor asks for by itself
/// ends with every page.
const AHEAD: usize = 12 << 10;

/// How far what is asked for is from what is multiplied, in rows of `bytes`: whole blocks, or a part of each of the rows
/// where they are longer than that.
#[inline(always)]
fn distance(bytes: usize) -> usize {
    let block = ROWS * bytes;
    if block > 2 * AHEAD { AHEAD / ROWS } else { AHEAD.next_multiple_of(block.max(1)) }
}

/// Asks for what lies `distance` bytes behind `chunk`.
#[inline(always)]
fn ask_ahead<T>(chunk: &[T; LANES], distance: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of::<[T; LANES]>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = std::ptr::from_ref(chunk).cast::<i8>().wrapping_byte_add(distance + at);
        // SAFETY: every x86-64 processor has this, and it may be given any address, since it reads none.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (chunk, distance);
}

/// Rows of a weight `[out, in]`, and perhaps of an adapter's B `[out, rank]`, which has its own vector.
#[derive(Clone, Copy)]
struct Rows<'a> {
    weight: Source<'a>,
    b: &'a [f32],
    u: &'a [f32],
}

impl<'a> Rows<'a> {
    fn plain(weight: impl Into<Source<'a>>) -> Self {
        Rows { weight: weight.into(), b: &[], u: &[] }
    }

    /// All from row `row` on.
    fn from(self, row: usize, inputs: usize) -> Self {
        Rows { weight: self.weight.from(row * inputs), b: &self.b[row * self.u.len()..], u: self.u }
    }

    /// `y = w x + b u`.
    fn times(self, x: &[f32], y: &mut [f32]) {
        match self.weight {
            Source::Values(Values::F32(weight)) => times_f32(weight, x, self.b, self.u, y),
            Source::Values(Values::Bf16(weight)) => times_bf16(weight, x, self.b, self.u, y),
            // A few rows are widened into the first-level cache at a time: less work than memory takes for as many of bf16.
            Source::Quantised { .. } => {
                let (inputs, rank) = (x.len(), self.u.len());
                let mut wide = Buffer::<f32>::any(ROWS * inputs);
                for (i, y) in y.chunks_mut(ROWS).enumerate() {
                    let wide = &mut wide[..y.len() * inputs];
                    self.weight.read(i * ROWS * inputs, wide);
                    times_f32(wide, x, &self.b[i * ROWS * rank..], self.u, y);
                }
            }
        }
    }
}

/// `y = w x` on all threads: `[out, in]` by `[in]`.
pub(super) fn times_vector(weight: Values, x: &[f32], y: &mut [f32]) {
    let mut parts = Vec::new();
    cut(&mut parts, 0, Rows::plain(weight), x.len(), y);
    parts.into_par_iter().with_max_len(1).for_each(|part| part.rows.times(x, part.y));
}

/// A part of the product of one of the linear layers of a group.
struct Part<'a> {
    rows: Rows<'a>,
    y: &'a mut [f32],
    /// Which of the layers, and the first of its rows.
    linear: usize,
    row: usize,
}

/// Cuts the rows of a product into parts for the threads.
fn cut<'a>(parts: &mut Vec<Part<'a>>, linear: usize, rows: Rows<'a>, inputs: usize, y: &'a mut [f32]) {
    let height = (PART / inputs.max(1)).next_multiple_of(ROWS).max(ROWS);
    for (i, y) in y.chunks_mut(height).enumerate() {
        parts.push(Part { rows: rows.from(i * height, inputs), y, linear, row: i * height });
    }
}

/// A frozen weight `[out, in]` and bias, and the adapter on it: A `[rank, in]` and B `[out, rank]`.
pub(super) struct Linear<'a> {
    pub weight: Source<'a>,
    pub out: usize,
    pub bias: Option<Vec<f32>>,
    pub adapter: Option<(&'a [f32], &'a [f32])>,
}

/// Linear layers with one input; the result has their outputs side by side.
pub(super) struct Linears<'a> {
    pub linears: Vec<Linear<'a>>,
    pub inputs: usize,
    /// Of every adapter.
    pub rank: usize,
    pub scale: f32,
}

impl Linears<'_> {
    /// Width of the result.
    pub(super) fn outputs(&self) -> usize {
        self.linears.iter().map(|l| l.out).sum()
    }

    /// `y = x Wᵀ + bias + u Bᵀ + residual` of a single row, with `u = scale · x Aᵀ`, in f32.
    pub(super) fn times(&self, x: &[f32], y: &mut [f32], residual: Option<&[f32]>) {
        let adapters = || self.linears.iter().filter_map(|l| l.adapter);
        let mut u = vec![0f32; adapters().count() * self.rank];
        let mut parts = Vec::new();
        for ((a, _), own) in adapters().zip(u.chunks_exact_mut(self.rank.max(1))) {
            cut(&mut parts, 0, Rows::plain(Values::F32(a)), self.inputs, own);
        }
        parts.into_par_iter().with_max_len(1).for_each(|part| {
            part.rows.times(x, part.y);
            part.y.iter_mut().for_each(|u| *u *= self.scale);
        });

        let mut parts = Vec::new();
        let (mut rest, mut us) = (y, u.as_slice());
        for (i, linear) in self.linears.iter().enumerate() {
            let (own, after) = rest.split_at_mut(linear.out);
            let mut rows = Rows::plain(linear.weight);
            if let Some((_, b)) = linear.adapter {
                (rows.u, us) = us.split_at(self.rank);
                rows.b = b;
            }
            cut(&mut parts, i, rows, self.inputs, own);
            rest = after;
        }
        // Only a group of one layer is added to the residual stream.
        parts.into_par_iter().with_max_len(1).for_each(|Part { rows, y, linear, row }| {
            rows.times(x, y);
            let places = row..row + y.len();
            for added in [self.linears[linear].bias.as_deref(), residual].into_iter().flatten() {
                super::rows::add(&added[places.clone()], y);
            }
        });
    }
}

/// Adds the products of rows with `x` to `sums`, lane by lane.
#[inline(always)]
fn accumulate<T: Copy, const N: usize>(
    mut sums: [[f32; LANES]; N],
    rows: [&[T]; N],
    x: &[f32],
    value: impl Fn(T) -> f32,
) -> [[f32; LANES]; N] {
    let (x, rest) = x.as_chunks::<LANES>();
    let (chunks, left) =
        (rows.map(|row| &row.as_chunks::<LANES>().0[..x.len()]), rows.map(|row| row.as_chunks::<LANES>().1));
    let ahead = distance(size_of::<T>() * (LANES * x.len() + rest.len()));
    for (i, x) in x.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(chunks) {
            ask_ahead(&row[i], ahead);
            for ((sum, w), x) in sums.iter_mut().zip(&row[i]).zip(x) {
                *sum += value(*w) * x;
            }
        }
    }
    if !rest.is_empty() {
        for (sums, mut row) in sums.iter_mut().zip(left) {
            let mut x = rest;
            // The usual ranks of adapters are such rests.
            add_chunk::<T, 16>(sums, &mut row, &mut x, &value);
            add_chunk::<T, 8>(sums, &mut row, &mut x, &value);
            for ((sum, w), x) in sums.iter_mut().zip(row).zip(x) {
                *sum += value(*w) * x;
            }
        }
    }
    sums
}

/// Takes as many values off `row` and `x`, where there are, and adds their products to `sums`.
#[inline(always)]
fn add_chunk<T: Copy, const L: usize>(
    sums: &mut [f32; LANES],
    row: &mut &[T],
    x: &mut &[f32],
    value: &impl Fn(T) -> f32,
) {
    let (Some((own, row_rest)), Some((with, x_rest))) =
        (row.split_first_chunk::<L>(), x.split_first_chunk::<L>())
    else {
        return;
    };
    for ((sum, w), x) in sums.iter_mut().zip(own).zip(with) {
        *sum += value(*w) * x;
    }
    (*row, *x) = (row_rest, x_rest);
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn sum_of_lanes(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `N` rows from `row` on.
#[inline(always)]
fn products<T: Copy, const N: usize>(
    weight: &[T],
    x: &[f32],
    b: &[f32],
    u: &[f32],
    row: usize,
    value: impl Fn(T) -> f32,
) -> [f32; N] {
    let (inputs, rank) = (x.len(), u.len());
    let rows = std::array::from_fn(|n| &weight[(row + n) * inputs..(row + n + 1) * inputs]);
    let mut sums = accumulate([[0f32; LANES]; N], rows, x, value);
    if rank > 0 {
        let rows = std::array::from_fn(|n| &b[(row + n) * rank..(row + n + 1) * rank]);
        sums = accumulate(sums, rows, u, |v| v);
    }
    let mut totals = [0f32; N];
    for (total, sums) in totals.iter_mut().zip(&sums) {
        *total = sum_of_lanes(*sums);
    }
    totals
}

#[inline(always)]
fn all_rows<T: Copy>(
    weight: &[T],
    x: &[f32],
    b: &[f32],
    u: &[f32],
    y: &mut [f32],
    value: impl Fn(T) -> f32 + Copy,
) {
    let (blocks, rest) = y.as_chunks_mut::<ROWS>();
    let done = blocks.len() * ROWS;
    for (i, y) in blocks.iter_mut().enumerate() {
        *y = products(weight, x, b, u, i * ROWS, value);
    }
    for (i, y) in rest.iter_mut().enumerate() {
        [*y] = products(weight, x, b, u, done + i, value);
    }
}

#[inline(always)]
pub(super) fn wide(v: bf16) -> f32 {
    f32::from_bits(u32::from(v.to_bits()) << 16)
}

vectorised! {
    fn times_f32(weight: &[f32], x: &[f32], b: &[f32], u: &[f32], y: &mut [f32]) {
        all_rows(weight, x, b, u, y, |v| v);
    }

    fn times_bf16(weight: &[bf16], x: &[f32], b: &[f32], u: &[f32], y: &mut [f32]) {
        all_rows(weight, x, b, u, y, wide);
    }
}
