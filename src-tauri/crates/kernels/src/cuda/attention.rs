//! Attention on the card: heads made ready, and causal attention over sequences that lie end to end, forward and backward.

use candle_core::{Result, Tensor};

use super::{
    card::{Arg, Card, Grid, Numbers, Source, numbers},
    plan::Plan,
    precision::Precision,
};
use crate::{Heads, RopeTable};

/// Widths of a head that there are kernels on tensor cores for, in sixteen bits.
const WIDTHS: [usize; 4] = [32, 64, 96, 128];
/// The widest head that the other kernels take.
pub(super) const WIDEST: usize = 256;

/// Keys of a block of the backward pass, and values between its rows.
const KEYS: usize = 64;
const PAD: usize = 8;

/// What heads go through before they are compared.
pub(super) struct Heading<'a> {
    /// Weights of the norms of queries and of keys.
    pub norms: Option<&'a [Tensor; 2]>,
    pub eps: f32,
    pub table: Option<&'a RopeTable>,
    pub heads: Heads,
}

impl Heading<'_> {
    /// Values of queries and keys of a token.
    pub fn width(&self) -> usize {
        (self.heads.queries + self.heads.keys) * self.heads.dim
    }

    /// The end of the arguments of both kernels.
    fn args(
        &self,
        card: Card,
        plan: &Plan,
        tokens: usize,
        pitch: usize,
    ) -> Result<(Vec<Arg>, Option<Tensor>)> {
        let norm = |i: usize| match self.norms {
            Some(norms) => numbers(&norms[i]).map(|norm| (norm.at, norm.precision)),
            None => Ok((0, Precision::F32)),
        };
        let ((query_norm, kind), (key_norm, _)) = (norm(0)?, norm(1)?);
        let angles = self.table.map(|table| table.on_card(card.0)).transpose()?;
        let at = angles.as_ref().map(numbers).transpose()?;
        let Heads { queries, keys, dim, .. } = self.heads;
        let args = vec![
            Arg::At(query_norm),
            Arg::At(key_norm),
            Arg::At(at.map_or(0, |at| at.at)),
            Arg::At(card.address(&plan.positions)),
            (queries + keys).into(),
            queries.into(),
            dim.into(),
            pitch.into(),
            self.table.map_or(0, RopeTable::positions).into(),
            self.eps.into(),
            Arg::Long((tokens * (queries + keys)) as i64),
            kind.into(),
        ];
        Ok((args, angles))
    }

    /// Queries and keys made ready, from rows of queries, keys and values.
    pub fn apply(
        &self,
        card: Card,
        plan: &Plan,
        tokens: usize,
        (qkv, pitch): (Numbers, usize),
        to: Numbers,
    ) -> Result<()> {
        let (rest, _angles) = self.args(card, plan, tokens, pitch)?;
        let args = [vec![qkv.into(), to.into()], rest].concat();
        let count = tokens * (self.heads.queries + self.heads.keys);
        card.start(Source::Rows, &format!("heads_ready_{}", to.suffix()), Grid::warps(count), &args)
    }

    /// From the gradients of heads that are ready those of the heads as they were, into rows like those of `qkv`.
    pub fn back(
        &self,
        card: Card,
        plan: &Plan,
        tokens: usize,
        ready: Numbers,
        (qkv, to, pitch): (Numbers, Numbers, usize),
    ) -> Result<()> {
        let (rest, _angles) = self.args(card, plan, tokens, pitch)?;
        let args = [vec![ready.into(), qkv.into(), to.into()], rest].concat();
        let count = tokens * (self.heads.queries + self.heads.keys);
        card.start(Source::Rows, &format!("heads_back_{}", to.suffix()), Grid::warps(count), &args)
    }
}

/// Queries and keys that are ready, and values.
#[derive(Clone, Copy)]
pub(super) struct Mixing<'a> {
    pub heads: Heads,
    pub plan: &'a Plan,
    pub tokens: usize,
    /// Rows of queries, then keys.
    pub ready: Numbers,
    /// Values of key head 0 of the first token, and how far rows are apart.
    pub values: (Numbers, usize),
}

impl Mixing<'_> {
    fn pitch(&self) -> usize {
        (self.heads.queries + self.heads.keys) * self.heads.dim
    }

    fn keys(&self) -> Numbers {
        self.ready.from(self.heads.queries * self.heads.dim)
    }

    /// The kernels on tensor cores, and how many queries a block of keys takes at a time there, where there are some.
    fn on_tensor_cores(&self, card: Card) -> Result<Option<(Source, usize)>> {
        if !WIDTHS.contains(&self.heads.dim) {
            return Ok(None);
        }
        Ok(match self.ready.precision {
            Precision::F32 => None,
            Precision::Bf16 => Some((Source::Attention, 32)),
            Precision::F16 if card.capability()? >= 80 => Some((Source::AttentionHalf, 32)),
            Precision::F16 => Some((Source::AttentionTuring, if self.heads.dim > 96 { 16 } else { 32 })),
        })
    }

    /// Sizes and the factor of scores, as all kernels have them at the end.
    fn sizes(&self) -> [Arg; 6] {
        let Heads { queries, keys, dim, window } = self.heads;
        [
            queries.into(),
            (queries / keys).into(),
            self.pitch().into(),
            self.values.1.into(),
            window.unwrap_or(0).into(),
            (dim as f32).sqrt().recip().into(),
        ]
    }

    /// Mixed values `[tokens, queries · dim]`, and the logarithm of each query's sum of exponentials.
    pub fn forward(&self, card: Card, out: Numbers, log_sums: Numbers) -> Result<()> {
        let Heads { queries, keys, dim, window } = self.heads;
        let operands: [Arg; 5] =
            [self.ready.into(), self.keys().into(), self.values.0.into(), out.into(), log_sums.into()];
        if let Some((source, _)) = self.on_tensor_cores(card)? {
            let grid = Grid { blocks: (self.plan.tile_count, queries), threads: 128, shared: 0 };
            let args = [&operands[..], &[Arg::At(card.address(&self.plan.tiles))], &self.sizes()].concat();
            return card.start(source, &format!("attention_{dim}"), grid, &args);
        }
        let args = [
            &operands[..],
            &[
                Arg::At(card.address(&self.plan.bounds)),
                queries.into(),
                (queries / keys).into(),
                dim.into(),
                self.pitch().into(),
                self.pitch().into(),
                self.values.1.into(),
                0usize.into(),
                window.unwrap_or(0).into(),
                (dim as f32).sqrt().recip().into(),
                false.into(),
            ],
        ]
        .concat();
        let grid = Grid { blocks: (self.tokens, queries), threads: 256, shared: 0 };
        card.start(Source::Plain, &format!("attend_{}", out.suffix()), grid, &args)
    }

    /// From the gradient `g` of the mixed values those of queries and keys that are ready, f32, to `to`, and of values, to rows like
    /// those they are in.
    pub fn backward(
        &self,
        card: Card,
        (out, log_sums, g): (Numbers, Numbers, Numbers),
        to: Numbers,
        to_values: Numbers,
    ) -> Result<()> {
        let Heads { queries, keys, dim, window } = self.heads;
        let count = self.tokens * queries;
        let pulls_room = card.room(Precision::F32, count)?;
        let pulls = pulls_room.numbers(&card);
        let args = [out.into(), g.into(), pulls.into(), dim.into(), Arg::Long(count as i64)];
        card.start(Source::Plain, &format!("pulls_{}", out.suffix()), Grid::warps(count), &args)?;
        let operands: [Arg; 6] = [
            self.ready.into(),
            self.keys().into(),
            self.values.0.into(),
            g.into(),
            log_sums.into(),
            pulls.into(),
        ];
        let of_keys = to.from(queries * dim);
        if let Some((source, taken)) = self.on_tensor_cores(card)? {
            let tiles = [Arg::At(card.address(&self.plan.tiles))];
            let grid = Grid { blocks: (self.plan.tile_count, queries), threads: 128, shared: 0 };
            let args = [&operands[..], &[to.into()], &tiles, &self.sizes()].concat();
            card.start(source, &format!("attention_queries_{dim}"), grid, &args)?;
            // Keys and values, and twice queries and their gradients.
            let shared = (2 * (2 * KEYS + 4 * taken) * (dim + PAD)) as u32;
            let grid = Grid { blocks: (self.plan.tile_count, queries), threads: 128, shared };
            let parts = [card.room(Precision::F32, count * dim)?, card.room(Precision::F32, count * dim)?];
            let [key_parts, value_parts] = [parts[0].numbers(&card), parts[1].numbers(&card)];
            let args =
                [&operands[..], &[key_parts.into(), value_parts.into()], &tiles, &self.sizes()].concat();
            card.start(source, &format!("attention_keys_{dim}"), grid, &args)?;
            let args = [
                key_parts.into(),
                value_parts.into(),
                of_keys.into(),
                to_values.into(),
                queries.into(),
                (queries / keys).into(),
                dim.into(),
                self.pitch().into(),
                self.values.1.into(),
            ];
            return card.start(source, "sum_of_heads", Grid::each(self.tokens, 256), &args);
        }
        let rest = [
            Arg::At(card.address(&self.plan.bounds)),
            queries.into(),
            (queries / keys).into(),
            dim.into(),
            self.pitch().into(),
            self.values.1.into(),
            window.unwrap_or(0).into(),
            (dim as f32).sqrt().recip().into(),
        ];
        let grid = Grid { blocks: (self.tokens, queries), threads: 32, shared: 0 };
        let args = [&operands[..], &[to.into()], &rest].concat();
        card.start(Source::Plain, &format!("query_gradient_{}", out.suffix()), grid, &args)?;
        let grid = Grid { blocks: (self.tokens, keys), threads: 32, shared: 0 };
        let args = [&operands[..], &[of_keys.into(), to_values.into()], &rest].concat();
        card.start(Source::Plain, &format!("key_gradient_{}", out.suffix()), grid, &args)
    }
}
