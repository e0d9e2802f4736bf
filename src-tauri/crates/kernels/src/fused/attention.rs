//! Causal attention over sequences laid end to end, block by block (Dao et al. 2022,
//! arXiv:2205.14135): of the scores only a block of queries by the keys they see ever exists, and only the logarithm of
//! each softmax's sum is kept for the backward pass.
#![allow(unsafe_code)]

use half::bf16;
use rayon::prelude::*;

use super::{
    heads::{Heading, Room, Side},
    rows::{add, dot, probabilities, softmax, softmax_backward},
};
use crate::{
    Heads,
    buffer::Buffer,
    matmul::{Add, Kind, Matrix, Output, Packed, Panels, Shared, multiply_part},
    values::{Numbers, Values, ValuesMut, narrow},
};

/// Queries of a block.
const QUERIES: usize = 64;
/// Keys whose scores are worked on at a time in the backward pass, where they need not be seen all together: scores and
/// gradients stay in the cache.
const KEYS: usize = 256;
/// Parts of a product start at multiples of so many keys.
const ALIGNED: usize = 32;

/// Attention of a layer over given sequences. Rows of its input hold the queries, keys and values of a token side by side,
/// `[tokens, (queries + 2 · keys) · dim]`; of its output, `[tokens, queries · dim]`.
pub(crate) struct Attention<'a> {
    pub heads: Heads,
    pub lengths: &'a [usize],
    pub heading: Heading<'a>,
    pub positions: &'a [u32],
    pub kind: Kind,
}

/// What one job works on: a part of the queries of one key head of one sequence.
#[derive(Clone, Copy)]
struct Job {
    start: usize,
    length: usize,
    key_head: usize,
    part: usize,
}

/// Memory of a job, used again by the next on the same thread.
#[derive(Default)]
struct Scratch {
    keys: Buffer<f32>,
    block: Buffer<f32>,
    scores: Buffer<f32>,
    gradients: Buffer<f32>,
    mixed: Buffer<f32>,
    packed: Packed,
    panels: [Panels; 3],
    small: Panels,
    room: Room,
}

/// A block of queries, rows `from..to` of the sequence, and of the keys that they see, row by row, those in `first..end`.
#[derive(Clone, Copy)]
struct Block {
    from: usize,
    to: usize,
    first: usize,
    end: usize,
}

impl Block {
    fn rows(&self) -> usize {
        self.to - self.from
    }

    fn keys(&self) -> usize {
        self.end - self.first
    }

    /// The same queries with [`KEYS`] keys at a time.
    fn parts(self) -> impl Iterator<Item = Block> {
        (self.first..self.end).step_by(KEYS).map(move |first| Block {
            first,
            end: (first + KEYS).min(self.end),
            ..self
        })
    }
}

impl Attention<'_> {
    fn stride(&self) -> usize {
        (self.heads.queries + 2 * self.heads.keys) * self.heads.dim
    }

    fn scale(&self) -> f32 {
        (self.heads.dim as f32).sqrt().recip()
    }

    fn group(&self) -> usize {
        self.heads.queries / self.heads.keys
    }

    /// Parts that the queries of a key head are shared out into, so that every thread has work.
    fn parts(&self) -> usize {
        let heads = self.lengths.iter().filter(|&&l| l > 0).count() * self.heads.keys;
        (2 * rayon::current_num_threads()).div_ceil(heads.max(1))
    }

    fn jobs(&self, parts: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut start = 0;
        for &length in self.lengths {
            let parts = parts.min(length.div_ceil(QUERIES));
            for key_head in 0..self.heads.keys {
                jobs.extend((0..parts).map(|part| Job { start, length, key_head, part }));
            }
            start += length;
        }
        jobs
    }

    fn blocks(&self, job: Job, parts: usize) -> impl Iterator<Item = Block> {
        let window = self.heads.window.unwrap_or(usize::MAX);
        let parts = parts.min(job.length.div_ceil(QUERIES));
        (job.part * QUERIES..job.length).step_by(parts * QUERIES).map(move |from| {
            let first = (from + 1).saturating_sub(window) / ALIGNED * ALIGNED;
            let to = (from + QUERIES).min(job.length);
            Block { from, to, first, end: to }
        })
    }

    /// Keys of the block that its row `i` sees, counted from the first of them.
    fn visible(&self, block: &Block, i: usize) -> std::ops::Range<usize> {
        let end = block.from + i + 1;
        let start = self.heads.window.map_or(0, |w| end.saturating_sub(w)).max(block.first);
        let start = start.min(block.end);
        start - block.first..end.clamp(start, block.end) - block.first
    }

    /// Reads `rows` rows of a head and makes them ready.
    fn ready(
        &self,
        side: Side,
        qkv: Values,
        (token, column): (usize, usize),
        rows: usize,
        to: &mut Buffer<f32>,
    ) {
        let dim = self.heads.dim;
        to.resize(rows * dim);
        for (i, row) in to.chunks_exact_mut(dim).enumerate() {
            qkv.read((token + i) * self.stride() + column, row);
            self.heading.apply(side, row, self.positions[token + i]);
        }
    }

    /// The scores of a block, `[rows, keys]`, from packed keys.
    fn scores(
        &self,
        block: &Block,
        queries: &[f32],
        keys: &Panels,
        packed: &mut Packed,
        to: &mut Buffer<f32>,
    ) {
        packed.pack(
            self.kind,
            Matrix::rows(Values::F32(queries), self.heads.dim),
            block.rows(),
            self.heads.dim,
        );
        to.resize(block.rows() * block.keys());
        multiply_part(packed, keys, block.first, block.keys(), 0, Output::f32(to, block.keys()));
    }

    /// `softmax(scale · q kᵀ) v` of every head, with queries and keys made ready, and the logarithm of the sum of exponentials of each row,
    /// `[tokens, queries]`.
    pub(crate) fn forward(&self, qkv: Values, narrow_out: bool) -> (Numbers, Buffer<f32>) {
        let Heads { queries, keys, dim, .. } = self.heads;
        let (stride, width) = (self.stride(), queries * dim);
        let tokens: usize = self.lengths.iter().sum();
        let mut out = Numbers::any(narrow_out, tokens * width);
        let mut log_sums = Buffer::any(tokens * queries);
        let place = Places::new(out.values_mut());
        let sums = Shared::new(&mut log_sums);
        let parts = self.parts();
        self.jobs(parts).into_par_iter().with_max_len(1).for_each_init(Scratch::default, |s, job| {
            let key_column = (queries + job.key_head) * dim;
            self.ready(Side::Key, qkv, (job.start, key_column), job.length, &mut s.keys);
            let [key_panels, value_panels, _] = &mut s.panels;
            key_panels.pack(self.kind, Matrix::rows(Values::F32(&s.keys), dim), job.length, dim);
            let values = qkv.from(job.start * stride + key_column + keys * dim);
            value_panels.pack(self.kind, Matrix::columns(values, stride), dim, job.length);
            for head in job.key_head * self.group()..(job.key_head + 1) * self.group() {
                for block in self.blocks(job, parts) {
                    let token = job.start + block.from;
                    self.ready(Side::Query, qkv, (token, head * dim), block.rows(), &mut s.block);
                    self.scores(&block, &s.block, key_panels, &mut s.packed, &mut s.scores);
                    for (i, row) in s.scores.chunks_exact_mut(block.keys()).enumerate() {
                        let seen = self.visible(&block, i);
                        row[..seen.start].fill(0.0);
                        row[seen.end..].fill(0.0);
                        let log_sum = softmax(&mut row[seen], self.scale());
                        // SAFETY: this head's sums of these tokens belong to this job alone.
                        unsafe { sums.slice((token + i) * queries + head, 1) }.fill(log_sum);
                    }
                    let p = Matrix::rows(Values::F32(&s.scores), block.keys());
                    s.packed.pack(self.kind, p, block.rows(), block.keys());
                    s.mixed.resize(block.rows() * dim);
                    let mixed = Output::f32(&mut s.mixed, dim);
                    multiply_part(&s.packed, value_panels, 0, dim, block.first, mixed);
                    for (i, row) in s.mixed.chunks_exact(dim).enumerate() {
                        // SAFETY: this head's columns of these tokens belong to this job alone.
                        unsafe { place.write((token + i) * width + head * dim, row) };
                    }
                }
            }
        });
        (out, log_sums)
    }

    /// The gradient of `qkv` from that of the output, `g`. With `P` the probabilities, computed again block by block, and
    /// `D = Σ g · out` of each row, which is `Σ P · (g Vᵀ)`:
    ///
    /// ```text
    /// dV = Pᵀ g        dS = scale · P · (g Vᵀ − D)        dQ = dS K        dK = dSᵀ Q
    /// ```
    ///
    /// after which the gradients of queries and keys go back through what made them ready.
    pub(crate) fn backward(&self, qkv: Values, out: Values, log_sums: &[f32], g: Values) -> Numbers {
        let Heads { queries, keys, dim, .. } = self.heads;
        let tokens: usize = self.lengths.iter().sum();
        let stride = self.stride();
        let mut gradient = Numbers::any(matches!(qkv, Values::Bf16(_)), tokens * stride);
        let place = Places::new(gradient.values_mut());
        let parts = self.parts();
        let jobs = self.jobs(parts);
        let of_keys: Vec<(Buffer<f32>, Buffer<f32>)> = jobs
            .par_iter()
            .with_max_len(1)
            .map_init(Scratch::default, |s, &job| {
                self.backward_job(job, parts, qkv, out, log_sums, g, &place, s)
            })
            .collect();
        // The parts of a key head lie one after the other.
        let mut summed: Vec<(Job, (Buffer<f32>, Buffer<f32>))> = Vec::new();
        for (job, (dk, dv)) in jobs.into_iter().zip(of_keys) {
            match summed.last_mut() {
                Some((_, (k, v))) if job.part > 0 => {
                    add(&dk, k);
                    add(&dv, v);
                }
                _ => summed.push((job, (dk, dv))),
            }
        }
        summed.par_iter_mut().for_each_init(Room::default, |room, (job, (dk, dv))| {
            let column = (queries + job.key_head) * dim;
            for (i, (dk, dv)) in dk.chunks_exact_mut(dim).zip(dv.chunks_exact(dim)).enumerate() {
                let token = job.start + i;
                let read = |to: &mut [f32]| qkv.read(token * stride + column, to);
                self.heading.back(Side::Key, dk, self.positions[token], room, read);
                // SAFETY: this key head's columns of these tokens belong to this job alone.
                unsafe {
                    place.write(token * stride + column, dk);
                    place.write(token * stride + column + keys * dim, dv);
                }
            }
        });
        gradient
    }

    /// Writes the gradients of the job's queries and returns those of its keys, made ready, and of its values.
    #[allow(clippy::too_many_arguments)]
    fn backward_job(
        &self,
        job: Job,
        parts: usize,
        qkv: Values,
        out: Values,
        log_sums: &[f32],
        g: Values,
        place: &Places,
        s: &mut Scratch,
    ) -> (Buffer<f32>, Buffer<f32>) {
        let Heads { queries, keys, dim, .. } = self.heads;
        let (stride, width, kind) = (self.stride(), queries * dim, self.kind);
        let key_column = (queries + job.key_head) * dim;
        let (mut dk, mut dv) = (Buffer::zeros(job.length * dim), Buffer::zeros(job.length * dim));
        self.ready(Side::Key, qkv, (job.start, key_column), job.length, &mut s.keys);
        let [key_panels, key_columns, value_panels] = &mut s.panels;
        key_panels.pack(kind, Matrix::rows(Values::F32(&s.keys), dim), job.length, dim);
        key_columns.pack(kind, Matrix::columns(Values::F32(&s.keys), dim), dim, job.length);
        let values = qkv.from(job.start * stride + key_column + keys * dim);
        value_panels.pack(kind, Matrix::rows(values, stride), job.length, dim);
        let (mut own, mut upstream) = (vec![0f32; dim], vec![0f32; dim]);
        for head in job.key_head * self.group()..(job.key_head + 1) * self.group() {
            for block in self.blocks(job, parts) {
                let (token, rows) = (job.start + block.from, block.rows());
                let at = |row: usize| (token + row) * width + head * dim;
                let g_block = Matrix::rows(g.from(at(0)), width);
                let g_columns = Matrix::columns(g.from(at(0)), width);
                self.ready(Side::Query, qkv, (token, head * dim), rows, &mut s.block);
                let mut pulls = [0f32; QUERIES];
                for (row, pull) in pulls.iter_mut().enumerate().take(rows) {
                    out.read(at(row), &mut own);
                    g.read(at(row), &mut upstream);
                    *pull = dot(&own, &upstream);
                }
                s.mixed.resize(rows * dim);
                for part in block.parts() {
                    let seen_keys = part.keys();
                    self.scores(&part, &s.block, key_panels, &mut s.packed, &mut s.scores);
                    s.packed.pack(kind, g_block, rows, dim);
                    s.gradients.resize(rows * seen_keys);
                    let place_of_dp = Output::f32(&mut s.gradients, seen_keys);
                    multiply_part(&s.packed, value_panels, part.first, seen_keys, 0, place_of_dp);
                    let both =
                        s.scores.chunks_exact_mut(seen_keys).zip(s.gradients.chunks_exact_mut(seen_keys));
                    for (i, (p, dp)) in both.enumerate() {
                        let seen = self.visible(&part, i);
                        for row in [&mut *p, &mut *dp] {
                            row[..seen.start].fill(0.0);
                            row[seen.end..].fill(0.0);
                        }
                        let log_sum = log_sums[(token + i) * queries + head];
                        probabilities(&mut p[seen.clone()], self.scale(), log_sum);
                        softmax_backward(&p[seen.clone()], pulls[i], self.scale(), &mut dp[seen]);
                    }
                    let (p, ds) = (Values::F32(&s.scores), Values::F32(&s.gradients));
                    let range = part.first * dim..part.end * dim;
                    s.packed.pack(kind, Matrix::columns(p, seen_keys), seen_keys, rows);
                    s.small.pack(kind, g_columns, dim, rows);
                    let place_of_dv = Output::f32(&mut dv[range.clone()], dim).add(Add::Itself);
                    multiply_part(&s.packed, &s.small, 0, dim, 0, place_of_dv);
                    s.packed.pack(kind, Matrix::columns(ds, seen_keys), seen_keys, rows);
                    s.small.pack(kind, Matrix::columns(Values::F32(&s.block), dim), dim, rows);
                    let place_of_dk = Output::f32(&mut dk[range], dim).add(Add::Itself);
                    multiply_part(&s.packed, &s.small, 0, dim, 0, place_of_dk);
                    s.packed.pack(kind, Matrix::rows(ds, seen_keys), rows, seen_keys);
                    let add = if part.first == block.first { Add::Nothing } else { Add::Itself };
                    let place_of_dq = Output::f32(&mut s.mixed, dim).add(add);
                    multiply_part(&s.packed, key_columns, 0, dim, part.first, place_of_dq);
                }
                for (i, dq) in s.mixed.chunks_exact_mut(dim).enumerate() {
                    let read = |to: &mut [f32]| qkv.read((token + i) * stride + head * dim, to);
                    self.heading.back(Side::Query, dq, self.positions[token + i], &mut s.room, read);
                    // SAFETY: this head's columns of these tokens belong to this job alone.
                    unsafe { place.write((token + i) * stride + head * dim, dq) };
                }
            }
        }
        (dk, dv)
    }
}

/// Numbers that several jobs write to, each its own rows of its own heads.
enum Places<'a> {
    F32(Shared<'a, f32>),
    Bf16(Shared<'a, bf16>),
}

impl<'a> Places<'a> {
    fn new(values: ValuesMut<'a>) -> Self {
        match values {
            ValuesMut::F32(v) => Places::F32(Shared::new(v)),
            ValuesMut::Bf16(v) => Places::Bf16(Shared::new(v)),
        }
    }

    /// Writes `values` from `at` on.
    ///
    /// # Safety
    /// Nobody else may write to these places at the same time.
    unsafe fn write(&self, at: usize, values: &[f32]) {
        match self {
            // SAFETY: the caller's promise.
            Places::F32(to) => unsafe { to.slice(at, values.len()) }.copy_from_slice(values),
            // SAFETY: the caller's promise.
            Places::Bf16(to) => narrow(values, unsafe { to.slice(at, values.len()) }),
        }
    }
}
