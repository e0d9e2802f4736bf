//! A decoder layer as one operation, where the fused kernels compute what the description says.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use kernels::{DecoderLayer, Gate, Heads, LayerInput, LayerLinear, RopeTable};

use super::{
    Description, FeedForward, NormKind, Slot,
    layer::{Layer, Norm},
    rope::{Angles, Scaling},
};
use crate::{LayerCache, LoraLinear, Pass, Sequences};

/// A table of rotary angles, and the places in it of some tokens.
type Placed = (Arc<RopeTable>, Arc<Vec<u32>>);

/// The linear layers in the order of [`DecoderLayer`].
const SLOTS: [Slot; 7] = [Slot::Q, Slot::K, Slot::V, Slot::O, Slot::Gate, Slot::Up, Slot::Down];

/// Whether the fused kernels compute all layers of such a model.
pub(in crate::arch) fn fits(description: &Description) -> bool {
    let Description { names, heads, .. } = description;
    let scale = description.scale == (heads.dim as f32).sqrt().recip();
    let norms = description.norm.kind != NormKind::Layer
        && names.feed_forward_norm.is_some()
        && names.attention_output_norm.is_none()
        && names.feed_forward_output_norm.is_none();
    let ropes = description.ropes.iter().all(|rope| {
        rope.width == rope.head && !rope.interleaved && !matches!(rope.scaling, Scaling::Long { .. })
    });
    scale
        && norms
        && ropes
        && description.score_cap.is_none()
        && !description.sinks
        && description.feed_forward == FeedForward::Gated(Gate::Silu)
        && description.linears.iter().map(|linear| linear.slot).eq(SLOTS)
}

/// The layer on `[tokens, hidden]` f32.
pub(super) fn forward(
    layer: &Layer,
    hidden: &Tensor,
    ropes: &[Angles],
    sequences: &Sequences,
    pass: Pass,
    cache: Option<&mut LayerCache>,
) -> Result<Tensor> {
    let (table, positions) = match angles(layer, ropes, sequences)? {
        Some((table, positions)) => (Some(table), positions),
        None => (None, Arc::new(sequences.positions())),
    };
    let fused = operation(layer, pass)?;
    match cache {
        Some(cache) => fused.forward_cached(hidden, table.as_ref(), cache.fused()),
        None => {
            let lengths = sequences.lengths.clone();
            fused.forward(hidden, LayerInput { lengths, table, positions })
        }
    }
}

/// The layer on the next tokens of several sequences, `[tokens, hidden]` f32.
pub(super) fn forward_many(
    layer: &Layer,
    hidden: &Tensor,
    ropes: &[Angles],
    lengths: &[usize],
    pass: Pass,
    caches: &mut [LayerCache],
) -> Result<Tensor> {
    // The table must reach as far as the longest does.
    let longest = caches.iter().zip(lengths).map(|(cache, length)| cache.len() + length).max().unwrap_or(0);
    let table = angles(layer, ropes, &Sequences::new(vec![longest]))?.map(|(table, _)| table);
    let caches = caches.iter_mut().map(LayerCache::fused).collect();
    operation(layer, pass)?.forward_cached_many(hidden, table.as_ref(), lengths, caches)
}

/// The rotary angles of a layer that has any, and the places of the tokens in them.
fn angles(layer: &Layer, ropes: &[Angles], sequences: &Sequences) -> Result<Option<Placed>> {
    layer.rope.and_then(|index| ropes.get(index)).map(|angles| angles.at(sequences)).transpose()
}

/// The layer as one operation.
fn operation(layer: &Layer, pass: Pass) -> Result<DecoderLayer> {
    let (Norm::Rms { weight, eps }, Some(Norm::Rms { weight: second, .. })) =
        (&layer.input_norm, &layer.feed_forward_norm)
    else {
        bail!("a fused layer needs two root mean square norms")
    };
    let query_key_norms = match &layer.head_norms {
        None => None,
        Some((Norm::Rms { weight: query, .. }, Norm::Rms { weight: key, .. })) => {
            Some([query.clone(), key.clone()])
        }
        Some(_) => bail!("heads of a fused layer need root mean square norms"),
    };
    let parts: Vec<(LayerLinear, f32)> =
        layer.linears.iter().map(|(_, linear): &(Slot, LoraLinear)| linear.part(pass)).collect();
    // Adapters of one model have one factor.
    let scale = parts.iter().find(|(linear, _)| linear.adapter.is_some()).map_or(1.0, |part| part.1);
    let linears: Vec<LayerLinear> = parts.into_iter().map(|part| part.0).collect();
    let Ok(linears) = <[LayerLinear; 7]>::try_from(linears) else {
        bail!("a fused layer needs seven linear layers")
    };
    let heads: Heads = layer.attention.heads;
    Ok(DecoderLayer {
        input_norm: weight.clone(),
        post_attention_norm: second.clone(),
        query_key_norms,
        eps: *eps,
        linears,
        scale,
        heads,
    })
}
