//! Rotary position embedding.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{given, wide};
use crate::RopeTable;

/// Rotates each head of `[tokens, heads · dim]` by its token's position, which the table is known to cover; the gradient is
/// rotated back.
pub(crate) fn rope(x: &Tensor, table: &Arc<RopeTable>, positions: &Arc<Vec<u32>>) -> Result<Tensor> {
    let value = rotate(x, table, positions, 1.0)?;
    let (table, positions) = (table.clone(), positions.clone());
    given("rope", &[x], value, move |_, _, gradient| {
        Ok(vec![Some(rotate(gradient, &table, &positions, -1.0)?)])
    })
}

/// By `direction` (1 or −1) times the angle.
fn rotate(x: &Tensor, table: &RopeTable, positions: &[u32], direction: f64) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let (form, half) = (table.form(), table.half());
    let heads = width / form.head;
    let both = table.on(x.device())?;
    let places = Tensor::from_slice(positions, tokens, x.device())?;
    let of_tokens = |which: usize| both.get(which)?.index_select(&places, 0)?.reshape((tokens, 1, half));
    let (cos, sin) = (of_tokens(0)?, (of_tokens(1)? * direction)?);
    let all = wide(x)?.reshape((tokens, heads, form.head))?;
    let rotated = all.narrow(2, 0, 2 * half)?;
    // Pairs are turned side by side: two tensors `[tokens, heads, half]`.
    let (a, b) = if form.interleaved {
        let pairs = rotated.contiguous()?.reshape((tokens, heads, half, 2))?;
        (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
    } else {
        (rotated.narrow(2, 0, half)?, rotated.narrow(2, half, half)?)
    };
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let turned = if form.interleaved {
        Tensor::stack(&[first, second], 3)?.reshape((tokens, heads, 2 * half))?
    } else {
        Tensor::cat(&[first, second], 2)?
    };
    let rest = form.head - 2 * half;
    let y = if rest == 0 { turned } else { Tensor::cat(&[turned, all.narrow(2, 2 * half, rest)?], 2)? };
    y.reshape((tokens, width))?.to_dtype(x.dtype())
}
