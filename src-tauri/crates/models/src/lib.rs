//! Model families: their config, the names of their tensors, their layers, the adapter on top.
//!
//! A model's files come from anywhere and are checked before they are used: sizes, offsets, names and shapes. Weights
//! are frozen; what is trained is the adapter.

pub mod adapter;
pub mod arch;
pub mod causal;
mod error;
pub mod export;
mod json;
pub mod lora;
mod model;
mod seq2seq;
mod span;
mod trained_linear;
pub mod weights;

use candle_core::Device;
use types::Provider;

pub use arch::{
    ARCHITECTURES, Architecture, Sizes, load, load_as, load_quantised, load_split, read_info, sizes,
};
pub use causal::{AT_ONCE, CausalLm, LayerCache, Pass, Sequences, forward};
pub use error::ModelError;
pub use kernels::Codes;
pub use lora::{LoraConfig, LoraLinear};
pub use model::{AnyModel, Model, ModelInfo, ModelView};
pub use seq2seq::{DecoderCache, Memory, Seq2SeqLm, decode, encode};
pub use span::SpanModel;
pub use trained_linear::TrainedLinear;
pub use weights::Quantise;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Keep weights and activations in bf16 instead of f32; in f16 on a card that has no bf16.
    pub bf16: bool,
    /// Which implementation computes; a family, or a device, without fused kernels takes the reference.
    pub provider: Provider,
    /// Where it computes.
    pub device: Device,
}
