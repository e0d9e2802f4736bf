//! Qwen2, Qwen2.5 and the dense models of Qwen3: the Llama shape, with biases on queries, keys and values, and since
//! Qwen3 a norm of each head instead.

use super::{
    decoder::{Biases, Description, fields, gated_linears, gguf},
    llama,
};
use crate::{ModelError, json::JsonFile};

/// `Qwen2ForCausalLM`.
pub(super) fn describe_qwen2(json: &JsonFile) -> Result<Description, ModelError> {
    let description = llama::describe(json)?;
    let middle = fields::side(json, "intermediate_size")?;
    let biases = Biases { qkv: true, ..Biases::default() };
    let linears = gated_linears(description.hidden_size, description.heads, middle, biases);
    let gguf = Some(gguf::Kind { architecture: "qwen2", interleaved: false });
    windowed(json, Description { linears, gguf, ..description })
}

/// `Qwen3ForCausalLM`.
pub(super) fn describe_qwen3(json: &JsonFile) -> Result<Description, ModelError> {
    let gguf = Some(gguf::Kind { architecture: "qwen3", interleaved: false });
    windowed(json, Description { query_key_norm: true, gguf, ..llama::describe(json)? })
}

/// With the windows that `layer_types` says, or those of the layers from `max_window_layers` on, where
/// `use_sliding_window` turns them on at all.
fn windowed(json: &JsonFile, description: Description) -> Result<Description, ModelError> {
    let slides = json.flag("use_sliding_window")?;
    let window = fields::window(json, description.context_length)?.filter(|_| slides);
    let from = json.size("max_window_layers", 0..=usize::MAX)?.unwrap_or(28);
    let slides = |layer: usize| window.is_some() && layer >= from;
    let layers = fields::places(json, description.layers.len(), window, (0, 0), slides)?;
    Ok(Description { layers, ..description })
}
