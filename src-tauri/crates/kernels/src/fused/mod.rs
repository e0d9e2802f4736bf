//! The fused operations: what a decoder layer and the loss compute, in few passes over memory and with hand-written
//! backward passes, on the products of [`matmul`](crate::matmul).
//!
//! They give what the compositions of the reference operations give, within rounding, and are tested against them.

mod attention;
mod cache;
mod cached;
mod head;
mod heads;
mod layer;
mod linear;
mod product;
mod rows;
mod vector;

pub use cache::KeyValueCache;
pub use head::{fused_cross_entropy, fused_token_log_probs};
pub use layer::{DecoderLayer, LayerInput, LayerLinear};
pub use product::fused_product;

#[cfg(feature = "cuda")]
pub(crate) use layer::{DOWN, Frozen, GATE_UP, GROUPS, O, QKV};

/// Turns logits into probabilities, `softmax(scale · logits)`, on this thread.
pub fn probabilities(logits: &mut [f32], scale: f32) {
    rows::softmax(logits, scale);
}
