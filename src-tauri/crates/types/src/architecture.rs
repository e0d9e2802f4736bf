//! The model architectures that the engine trains, by the name `config.json` gives in `architectures`.
//!
//! The app must know them without the engine's code; a test of `models` holds the two lists together.

/// Every architecture that can be trained.
pub const TRAINABLE: &[&str] = &["LlamaForCausalLM", "MistralForCausalLM"];
