//! Keys and values of the tokens a layer has seen, and attention of the next ones over them.

use candle_core::{Result, bail};
use half::bf16;
use rayon::prelude::*;

use super::{
    heads::{Heading, Side},
    rows::softmax,
    vector::wide,
};
use crate::{
    Heads,
    level::vectorised,
    matmul::{Kind, Matrix, Output, Packed, Panels, multiply_part},
    values::{Values, bf16_bits},
};

/// Tokens of a block.
const BLOCK: usize = 64;
/// Parts of a product start at multiples of so many keys.
const ALIGNED: usize = 32;
/// Values mixed at a time: they stay in registers.
const LANES: usize = 32;
/// Blocks that are worth a thread of their own.
const PART: usize = 8;

/// Keys, made ready, and values of the tokens of one sequence, in the precision of the weights.
///
/// They lie in blocks of 64 tokens. A block holds, for each key head, the keys `[dim, 64]`, so that the scores of 64
/// tokens are summed side by side, and the values `[64, dim]`. Growing moves nothing to another place in its block.
#[derive(Debug, Clone)]
pub struct KeyValueCache {
    kept: Kept,
    /// Values of a block.
    of_block: usize,
    length: usize,
    /// All of it, where it is on a card.
    #[cfg(feature = "cuda")]
    card: Option<crate::cuda::CardCache>,
}

#[derive(Debug, Clone)]
enum Kept {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Kept {
    fn values(&self) -> Values<'_> {
        match self {
            Kept::F32(values) => Values::F32(values),
            Kept::Bf16(values) => Values::Bf16(values),
        }
    }
}

impl Default for KeyValueCache {
    fn default() -> Self {
        KeyValueCache {
            kept: Kept::F32(Vec::new()),
            of_block: 0,
            length: 0,
            #[cfg(feature = "cuda")]
            card: None,
        }
    }
}

impl KeyValueCache {
    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn take_card(&mut self) -> Option<crate::cuda::CardCache> {
        self.card.take()
    }

    /// It holds so many tokens now.
    #[cfg(feature = "cuda")]
    pub(crate) fn set_card(&mut self, card: crate::cuda::CardCache, length: usize) {
        (self.card, self.length) = (Some(card), length);
    }

    /// Forgets all but the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

/// The cache of one layer, whose sizes are `heads`, while its next tokens are computed.
pub(super) struct Cached<'a> {
    pub cache: &'a mut KeyValueCache,
    pub heads: Heads,
    pub heading: Heading<'a>,
}

/// What a part of the keys gives a query: the mixed values, and the logarithm of the sum of exponentials.
type Mixed = (Vec<f32>, f32);

impl Cached<'_> {
    /// Values of a head in a block: its keys, then its values.
    fn size(&self) -> usize {
        2 * BLOCK * self.heads.dim
    }

    fn head(&self, block: usize, key_head: usize) -> usize {
        (block * self.heads.keys + key_head) * self.size()
    }

    fn group(&self) -> usize {
        self.heads.queries / self.heads.keys
    }

    fn scale(&self) -> f32 {
        (self.heads.dim as f32).sqrt().recip()
    }

    /// The first token that the query of token `position` sees.
    fn first(&self, position: usize) -> usize {
        self.heads.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Values of a block, of all heads.
    fn of_block(&self) -> usize {
        self.heads.keys * self.size()
    }

    /// Fails unless the cache is one of this layer, whose weights are bf16 where `narrow`.
    pub(super) fn check(&self, narrow: bool) -> Result<()> {
        let KeyValueCache { kept, of_block, length, .. } = &self.cache;
        if *length > 0 && (*of_block != self.of_block() || narrow != matches!(kept, Kept::Bf16(_))) {
            bail!("a cache of {length} tokens of another layer cannot go on with {:?}", self.heads);
        }
        Ok(())
    }

    /// Adds the keys and values of the next `tokens` tokens, given as rows of queries, keys and values side by side. The
    /// keys are made ready here.
    pub(super) fn append(&mut self, qkv: Values, tokens: usize, narrow: bool) {
        let of_block = self.of_block();
        let (from, to) = (self.cache.length, self.cache.length + tokens);
        let len = to.div_ceil(BLOCK) * of_block;
        let (heads, heading) = (self.heads, self.heading);
        let places = from / BLOCK * of_block..len;
        if narrow != matches!(self.cache.kept, Kept::Bf16(_)) {
            self.cache.kept = if narrow { Kept::Bf16(Vec::new()) } else { Kept::F32(Vec::new()) };
        }
        match &mut self.cache.kept {
            Kept::F32(all) => {
                all.resize(len.max(all.len()), 0.0);
                let blocks = all[places].par_chunks_mut(of_block).enumerate();
                blocks.for_each(|(i, block)| write(block, i, from, to, qkv, heads, heading, |v| v));
            }
            Kept::Bf16(all) => {
                all.resize(len.max(all.len()), bf16::ZERO);
                let blocks = all[places].par_chunks_mut(of_block).enumerate();
                let round = |v| bf16::from_bits(bf16_bits(v) as u16);
                blocks.for_each(|(i, block)| write(block, i, from, to, qkv, heads, heading, round));
            }
        }
        (self.cache.length, self.cache.of_block) = (to, of_block);
    }

    /// Attention of the last token, whose queries are given, over all it sees: `[queries · dim]`.
    pub(super) fn attend_one(&self, queries: &[f32]) -> Vec<f32> {
        let Heads { keys, dim, .. } = self.heads;
        let position = self.cache.length - 1;
        let seen = self.first(position)..self.cache.length;
        let mut ready = queries[..self.heads.queries * dim].to_vec();
        for head in ready.chunks_exact_mut(dim) {
            self.heading.apply(Side::Query, head, position as u32);
        }
        let blocks = seen.end.div_ceil(BLOCK) - seen.start / BLOCK;
        let wanted = rayon::current_num_threads().div_ceil(keys);
        let parts = wanted.min(blocks.div_ceil(PART)).max(1);
        let length = blocks.div_ceil(parts) * BLOCK;
        let mut mixed: Vec<Vec<Mixed>> = Vec::new();
        let width = self.group() * dim;
        (0..keys * parts)
            .into_par_iter()
            .map(|job| {
                let (key_head, part) = (job / parts, job % parts);
                let from = seen.start / BLOCK * BLOCK + part * length;
                let seen = seen.start.max(from)..seen.end.min(from + length);
                self.mix(key_head, &ready[key_head * width..][..width], seen)
            })
            .collect_into_vec(&mut mixed);
        let mut out = vec![0f32; ready.len()];
        for (heads, out) in mixed.chunks_exact(parts).zip(out.chunks_exact_mut(width)) {
            for (i, out) in out.chunks_exact_mut(dim).enumerate() {
                let most = heads.iter().map(|part| part[i].1).fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = heads.iter().map(|part| (part[i].1 - most).exp()).sum();
                for (values, log_sum) in heads.iter().map(|part| &part[i]) {
                    let share = (log_sum - most).exp() / total;
                    out.iter_mut().zip(values).for_each(|(out, v)| *out += share * v);
                }
            }
        }
        out
    }

    /// What the keys `seen`, which may be none, give the queries of a key head.
    fn mix(&self, key_head: usize, queries: &[f32], seen: std::ops::Range<usize>) -> Vec<Mixed> {
        let dim = self.heads.dim;
        if seen.is_empty() {
            return vec![(vec![0f32; dim], f32::NEG_INFINITY); self.group()];
        }
        let blocks = seen.start / BLOCK..seen.end.div_ceil(BLOCK);
        let first = blocks.start * BLOCK;
        let visible = seen.start - first..seen.end - first;
        let all = self.cache.kept.values();
        let mut scores = vec![vec![0f32; blocks.len() * BLOCK]; self.group()];
        for (i, block) in blocks.clone().enumerate() {
            let keys = all.from(self.head(block, key_head));
            for (query, scores) in queries.chunks_exact(dim).zip(&mut scores) {
                block_scores(keys, query, &mut scores[i * BLOCK..(i + 1) * BLOCK]);
            }
        }
        let mut out: Vec<Mixed> = Vec::with_capacity(scores.len());
        for row in &mut scores {
            let log_sum = softmax(&mut row[visible.clone()], self.scale());
            out.push((vec![0f32; dim], log_sum));
        }
        for (i, block) in blocks.enumerate() {
            let values = all.from(self.head(block, key_head) + BLOCK * dim);
            // Tokens of this block that are seen.
            let tokens = visible.start.max(i * BLOCK)..visible.end.min((i + 1) * BLOCK);
            let values = values.from((tokens.start - i * BLOCK) * dim);
            for (row, (out, _)) in scores.iter().zip(&mut out) {
                mix_block(values, &row[tokens.clone()], out);
            }
        }
        out
    }

    /// Attention of the last `tokens` tokens, whose queries the rows of `qkv` begin with, over all they see. The result
    /// is `[queries, room, dim]`, where `room` is a whole number of blocks.
    pub(super) fn attend(&self, qkv: Values, tokens: usize, kind: Kind) -> HeadMajor {
        let Heads { queries, keys, dim, .. } = self.heads;
        let stride = (queries + 2 * keys) * dim;
        let offset = self.cache.length - tokens;
        let base = self.first(offset) / BLOCK;
        let panels: Vec<[Panels; 2]> =
            (0..keys).into_par_iter().with_max_len(1).map(|head| self.panels(head, base, kind)).collect();
        let base = base * BLOCK;
        let room = tokens.next_multiple_of(BLOCK);
        let mut out = HeadMajor { values: vec![0f32; queries * room * dim], room, dim };
        let jobs = out.values.par_chunks_exact_mut(BLOCK * dim).enumerate().with_max_len(1);
        jobs.for_each_init(Scratch::default, |s, (job, out)| {
            let (head, from) = (job / (room / BLOCK), job % (room / BLOCK) * BLOCK);
            let [key_panels, value_panels] = &panels[head / self.group()];
            let rows = (tokens - from).min(BLOCK);
            s.queries.resize(rows * dim, 0.0);
            for (i, row) in s.queries.chunks_exact_mut(dim).enumerate() {
                qkv.read((from + i) * stride + head * dim, row);
                self.heading.apply(Side::Query, row, (offset + from + i) as u32);
            }
            // Positions are counted from the first packed key here.
            let position = offset + from - base;
            let first = self.first(offset + from).saturating_sub(base) / ALIGNED * ALIGNED;
            let seen_keys = position + rows - first;
            s.packed.pack(kind, Matrix::rows(Values::F32(&s.queries), dim), rows, dim);
            s.scores.resize(rows * seen_keys, 0.0);
            let place = Output::f32(&mut s.scores, seen_keys);
            multiply_part(&s.packed, key_panels, first, seen_keys, 0, place);
            for (i, row) in s.scores.chunks_exact_mut(seen_keys).enumerate() {
                let start = self.first(offset + from + i).saturating_sub(base + first);
                let end = position + i + 1 - first;
                row[..start].fill(0.0);
                row[end..].fill(0.0);
                softmax(&mut row[start..end], self.scale());
            }
            s.packed.pack(kind, Matrix::rows(Values::F32(&s.scores), seen_keys), rows, seen_keys);
            let mixed = Output::f32(&mut out[..rows * dim], dim);
            multiply_part(&s.packed, value_panels, 0, dim, first, mixed);
        });
        out
    }

    /// The keys and the values of a head from block `base` on, packed.
    fn panels(&self, key_head: usize, base: usize, kind: Kind) -> [Panels; 2] {
        let dim = self.heads.dim;
        let count = self.cache.length - base * BLOCK;
        let all = self.cache.kept.values();
        let mut keys = vec![0f32; count.next_multiple_of(BLOCK) * dim];
        let mut values = keys.clone();
        let mut turned = vec![0f32; BLOCK * dim];
        let pairs = keys.chunks_exact_mut(BLOCK * dim).zip(values.chunks_exact_mut(BLOCK * dim));
        for (i, (keys, values)) in pairs.enumerate() {
            let at = self.head(base + i, key_head);
            all.read(at, &mut turned);
            for (d, row) in turned.chunks_exact(BLOCK).enumerate() {
                row.iter().enumerate().for_each(|(token, v)| keys[token * dim + d] = *v);
            }
            all.read(at + BLOCK * dim, values);
        }
        let mut panels = [Panels::default(), Panels::default()];
        panels[0].pack(kind, Matrix::rows(Values::F32(&keys), dim), count, dim);
        panels[1].pack(kind, Matrix::columns(Values::F32(&values), dim), dim, count);
        panels
    }
}

/// Memory of a job, used again by the next on the same thread.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    packed: Packed,
}

/// Rows of heads, head by head.
pub(super) struct HeadMajor {
    values: Vec<f32>,
    room: usize,
    dim: usize,
}

impl HeadMajor {
    /// The heads of a token side by side.
    pub(super) fn read(&self, token: usize, to: &mut [f32]) {
        for (head, to) in to.chunks_exact_mut(self.dim).enumerate() {
            let at = (head * self.room + token) * self.dim;
            to.copy_from_slice(&self.values[at..at + self.dim]);
        }
    }
}

/// Writes those tokens of `from..to` to a block, the `index`th that any of them goes to, that belong there.
#[allow(clippy::too_many_arguments)]
fn write<T>(
    block: &mut [T],
    index: usize,
    from: usize,
    to: usize,
    qkv: Values,
    heads: Heads,
    heading: Heading,
    round: impl Fn(f32) -> T,
) {
    let Heads { queries, keys, dim, .. } = heads;
    let start = (from / BLOCK + index) * BLOCK;
    let mut row = vec![0f32; dim];
    for position in start.max(from)..to.min(start + BLOCK) {
        let place = position - start;
        let columns = (position - from) * (queries + 2 * keys) + queries;
        for (head, block) in block.chunks_exact_mut(2 * BLOCK * dim).enumerate() {
            let (block_keys, block_values) = block.split_at_mut(BLOCK * dim);
            qkv.read((columns + head) * dim, &mut row);
            heading.apply(Side::Key, &mut row, position as u32);
            block_keys[place..].iter_mut().step_by(BLOCK).zip(&row).for_each(|(to, v)| *to = round(*v));
            qkv.read((columns + keys + head) * dim, &mut row);
            block_values[place * dim..].iter_mut().zip(&row).for_each(|(to, v)| *to = round(*v));
        }
    }
}

fn block_scores(keys: Values, query: &[f32], to: &mut [f32]) {
    match keys {
        Values::F32(keys) => scores_f32(keys, query, to),
        Values::Bf16(keys) => scores_bf16(keys, query, to),
    }
}

fn mix_block(values: Values, p: &[f32], to: &mut [f32]) {
    match values {
        Values::F32(values) => mix_f32(values, p, to),
        Values::Bf16(values) => mix_bf16(values, p, to),
    }
}

/// `query · key` of the 64 tokens of a block, whose keys are `[dim, 64]`.
#[inline(always)]
fn scores<T: Copy>(keys: &[T], query: &[f32], to: &mut [f32], value: impl Fn(T) -> f32) {
    let mut sums = [0f32; BLOCK];
    for (keys, q) in keys.as_chunks::<BLOCK>().0.iter().zip(query) {
        for (sum, k) in sums.iter_mut().zip(keys) {
            *sum += value(*k) * q;
        }
    }
    to.copy_from_slice(&sums);
}

/// Adds `Σ p · value` over tokens whose values are rows as long as `to`.
#[inline(always)]
fn mix<T: Copy>(values: &[T], p: &[f32], to: &mut [f32], value: impl Fn(T) -> f32) {
    let dim = to.len();
    let (lanes, rest) = to.as_chunks_mut::<LANES>();
    let done = lanes.len() * LANES;
    for (i, to) in lanes.iter_mut().enumerate() {
        let mut sums = *to;
        for (row, p) in values.chunks_exact(dim).zip(p) {
            for (sum, v) in sums.iter_mut().zip(&row[i * LANES..(i + 1) * LANES]) {
                *sum += value(*v) * p;
            }
        }
        *to = sums;
    }
    if !rest.is_empty() {
        for (row, p) in values.chunks_exact(dim).zip(p) {
            rest.iter_mut().zip(&row[done..]).for_each(|(to, v)| *to += value(*v) * p);
        }
    }
}

vectorised! {
    fn scores_f32(keys: &[f32], query: &[f32], to: &mut [f32]) {
        scores(keys, query, to, |v| v);
    }

    fn scores_bf16(keys: &[bf16], query: &[f32], to: &mut [f32]) {
        scores(keys, query, to, wide);
    }

    fn mix_f32(values: &[f32], p: &[f32], to: &mut [f32]) {
        mix(values, p, to, |v| v);
    }

    fn mix_bf16(values: &[bf16], p: &[f32], to: &mut [f32]) {
        mix(values, p, to, wide);
    }
}
