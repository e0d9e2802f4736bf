//! Model families: their config, the names of their tensors, their layers, the adapter on top.

pub mod causal;

pub use causal::{CausalLm, LayerCache, ModelInfo, Pass, Sequences};
