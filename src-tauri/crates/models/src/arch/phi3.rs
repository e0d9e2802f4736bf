//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: the Llama shape with queries, keys and values in one product and gate and up in
//! another, rotary positions on a part of each head, and other frequencies in long sequences.

use super::{
    decoder::{Description, fields, joined_linears},
    llama,
};
use crate::{ModelError, json::JsonFile};

/// `Phi3ForCausalLM`.
pub(super) fn describe(json: &JsonFile) -> Result<Description, ModelError> {
    for field in ["attention_bias", "mlp_bias", "lm_head_bias"] {
        fields::off(json, field)?;
    }
    let description = llama::describe_mistral(json)?;
    let middle = fields::side(json, "intermediate_size")?;
    let linears = joined_linears(description.hidden_size, description.heads, middle);
    Ok(Description { linears, gguf: None, ..description })
}
