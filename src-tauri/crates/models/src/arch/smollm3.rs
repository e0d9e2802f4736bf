//! SmolLM3: the Llama shape, where some layers know no positions.

use serde_json::Value;

use super::{
    decoder::{Description, fields},
    llama,
};
use crate::{ModelError, json::JsonFile};

/// `SmolLM3ForCausalLM`.
pub(super) fn describe(json: &JsonFile) -> Result<Description, ModelError> {
    let description = llama::describe(json)?;
    let rotated = rotated(json, description.layers.len())?;
    let window = fields::window(json, description.context_length)?;
    let window = if json.flag("use_sliding_window")? { window } else { None };
    let slides = |layer: usize| window.is_some() && !rotated[layer];
    let mut layers = fields::places(json, rotated.len(), window, (0, 0), slides)?;
    for (place, _) in layers.iter_mut().zip(&rotated).filter(|(_, rotated)| !**rotated) {
        place.rope = None;
    }
    let ropes = vec![fields::rope(json, description.heads.dim, description.context_length, 2_000_000.0)?];
    let tied = json.get("tie_word_embeddings").is_none() || description.tied;
    Ok(Description { layers, ropes, tied, gguf: None, ..description })
}

/// Whether each layer has rotary positions: `no_rope_layers` has a 1 for those that do. Without it, each
/// `no_rope_layer_interval`-th does not.
fn rotated(json: &JsonFile, layers: usize) -> Result<Vec<bool>, ModelError> {
    let interval = json.size("no_rope_layer_interval", 1..=usize::MAX)?.unwrap_or(4);
    let Some(list) = json.get("no_rope_layers") else {
        return Ok((1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    let wrong = |problem: String| json.wrong("no_rope_layers", problem);
    let Value::Array(list) = list else { return Err(wrong("must be a list of 0 and 1".into())) };
    if list.len() < layers {
        return Err(wrong(format!("has {} entries for num_hidden_layers {layers}", list.len())));
    }
    let flags = list.iter().take(layers).map(|flag| match flag.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(wrong(format!("must be a list of 0 and 1, not of {flag}"))),
    });
    flags.collect()
}
