//! The text part of Mistral Small 3.1 and later: `text_config` is a Mistral, beside it stands an image encoder, whose
//! tensors are left where they are.

use serde_json::{Value, json};

use super::{
    decoder::{Description, IMAGE_PARTS, LLAMA, Names},
    llama,
};
use crate::{ModelError, json::JsonFile};

const NAMES: Names = Names {
    embeddings: "model.language_model.embed_tokens",
    layers: "model.language_model.layers",
    final_norm: "model.language_model.norm",
    ignored: IMAGE_PARTS,
    ..LLAMA
};

/// `Mistral3ForConditionalGeneration`.
pub(super) fn describe(json: &JsonFile) -> Result<Description, ModelError> {
    let text = json.required("text_config", json.object("text_config")?)?;
    if let Some(kind) = text.text("model_type")?.filter(|&kind| kind != "mistral") {
        return Err(
            json.wrong("text_config", format!("model_type {kind:?} is not supported, only \"mistral\""))
        );
    }
    super::decoder::fields::readable_weights(json)?;
    let description = llama::describe_mistral(&text.or(&usual()))?;
    let tied = match json.get("tie_word_embeddings") {
        Some(_) => json.flag("tie_word_embeddings")?,
        None => description.tied,
    };
    Ok(Description { tied, names: &NAMES, gguf: None, ..description })
}

/// What `text_config` leaves out is as in Mistral Small 3.1.
fn usual() -> Value {
    json!({
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e9,
        "max_position_embeddings": 131072,
        "vocab_size": 131072,
    })
}
