//! The operations a decoder-only language model is made of, each with its gradient, one a file.
//!
//! There are two forms. The reference is a composition of small operations, computed in f32 whatever the tensors hold. The
//! fused kernels compute a whole decoder layer, and the loss, as one operation each on packed matrix products, and are
//! tested against it. Devices that have no kernels of ours compute the reference as compositions of candle's own operations
//! (`composed/`), to which each operation turns where there is none. All are exact about what gets a gradient. Base weights are frozen and
//! therefore part of an operation, never an operand on candle's tape, because candle would compute and keep a gradient
//! for them. An operation without a backward is an error in the backward pass; candle_nn's fused `rms_norm`,
//! `softmax_last_dim`, `rope`, `layer_norm` and `sdpa` cut the gradient silently and are not used.

mod adamw;
mod allocator;
mod attention;
mod buffer;
mod composed;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod disentangled;
mod dropout;
mod embedding;
mod fault;
mod frozen_linear;
mod frozen_weight;
mod fused;
mod gated;
mod gelu;
mod gemm;
mod layer_norm;
mod level;
mod matmul;
mod offload;
mod pages;
mod pair_attention;
mod quant;
mod rms_norm;
mod rope;
mod seed;
mod sixteen_bits;
mod slices;
mod softmax;
mod span_cross_entropy;
mod threads;
mod values;

pub use adamw::AdamWStep;
pub use allocator::{Allocator, exit_when_out_of_memory, in_large_pages, keep_freed_memory};
pub use attention::{Attention, Heads, attention, attention_cached};
pub use composed::{are_fused, converted};
pub use cross_entropy::{Head, IGNORED, cross_entropy, token_log_probs};
#[cfg(feature = "cuda")]
pub use cuda::{
    AdapterGradient, Beside, CardGradients, Choosing, Chosen, CodedMoments, Memory, Moments,
    adamw_8bit_on_card, adamw_on_card, card, card_fault, choose_on_card, memory, sgd_on_card,
};
pub use disentangled::{Disentangled, Distances};
pub use dropout::dropout;
pub use embedding::embedding;
pub use fault::CardFault;
#[cfg(not(feature = "cuda"))]
pub use fault::card_fault;
pub use frozen_linear::frozen_linear;
pub use frozen_weight::FrozenWeight;
pub use fused::{
    DecoderLayer, KeyValueCache, LayerInput, LayerLinear, fused_cross_entropy, fused_product,
    fused_token_log_probs, probabilities,
};
pub use gated::{Gate, gated};
pub use gelu::{Gelu, gelu};
pub use layer_norm::layer_norm;
pub use level::{COMPOSED, Level};
pub use offload::{Offload, Offloaded};
pub use pages::Pages;
pub use pair_attention::{PairAttention, Sight};
pub use quant::{Codes, DynamicMap, Quantised, Quantiser, Scales};
pub use rms_norm::rms_norm;
pub use rope::{RopeForm, RopeTable, rope};
pub use seed::seed;
pub use sixteen_bits::computed_in;
pub use softmax::{Mask, Scoring, masked_softmax};
pub use span_cross_entropy::span_cross_entropy;
pub use threads::stop_busy_waiting;
