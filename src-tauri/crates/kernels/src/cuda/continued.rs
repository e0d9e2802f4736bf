//! Attention of many tokens that go on after cached ones, on tensor cores.

use candle_core::Result;

use super::{
    attention::Mixing,
    card::{Card, Numbers},
    plan::{Plan, TILE},
    precision::Precision,
};
use crate::Heads;

/// Fewer tokens leave most of a tile empty.
const LEAST: usize = 16;
/// Keys are laid beside queries for it, in no more bytes than that.
const MOST: usize = 512 << 20;

/// Mixed values of the last `tokens` of a sequence, of which `before` come first and all are in the cache, to `out`, where the row of the
/// first of them is. Says no where the tensor cores' kernels are not made for them.
pub(super) fn attend(
    card: Card,
    heads: Heads,
    (tokens, before): (usize, usize),
    queries: Numbers,
    (keys, values): (Numbers, Numbers),
    out: Numbers,
) -> Result<bool> {
    let (width, of_keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let (pitch, all) = (width + of_keys, before + tokens);
    if tokens < LEAST || all * pitch * queries.size() > MOST {
        return Ok(false);
    }
    let tiles: Vec<i32> =
        (before..all).step_by(TILE).rev().flat_map(|first| [0, all as i32, first as i32, 0]).collect();
    let plan = Plan {
        positions: card.upload(&[0u32])?,
        bounds: card.upload(&[0i32, all as i32])?,
        tile_count: tiles.len() / 4,
        tiles: card.upload(&tiles)?,
    };
    let mixing = Mixing { heads, plan: &plan, tokens, ready: queries, values: (values, of_keys) };
    if mixing.on_tensor_cores(card)?.is_none() {
        return Ok(false);
    }
    let room = card.room(queries.precision, all * pitch)?;
    let ready = room.numbers(&card);
    card.copy_rows((queries, pitch), (ready.from(before * pitch), pitch), tokens, width)?;
    card.copy_rows((keys, of_keys), (ready.from(width), pitch), all, of_keys)?;
    let log_sums = card.room(Precision::F32, all * heads.queries)?;
    // The kernel counts rows from the beginning of the sequence and writes those of its tiles.
    let skipped = (before * width * out.size()) as u64;
    let out = Numbers { at: out.at.wrapping_sub(skipped), ..out };
    Mixing { ready, ..mixing }.forward(card, out, log_sums.numbers(&card))?;
    Ok(true)
}
