//! The Llama shape: Llama 1, 2 and 3, SmolLM2, TinyLlama, and Mistral, whose tokens may see a window only.
//!
//! Pre-norm decoder layers with rotary positions, grouped-query attention and a SwiGLU feed-forward layer.

use super::decoder::{
    Biases, Description, FeedForward, LLAMA, Norm, NormKind, Place, fields, gated_linears, gguf,
};
use crate::{ModelError, json::JsonFile};

/// llama.cpp rotates neighbouring pairs in this architecture.
const GGUF: gguf::Kind = gguf::Kind { architecture: "llama", interleaved: true };

/// `LlamaForCausalLM`.
pub(super) fn describe(json: &JsonFile) -> Result<Description, ModelError> {
    fields::readable_weights(json)?;
    let hidden_size = fields::side(json, "hidden_size")?;
    let context_length = fields::context(json, "max_position_embeddings")?;
    let heads = fields::heads(json, hidden_size, None)?;
    let middle = fields::side(json, "intermediate_size")?;
    let attention = json.flag("attention_bias")?;
    let biases = Biases { qkv: attention, o: attention, feed_forward: json.flag("mlp_bias")? };
    let layers = fields::layers(json, "num_hidden_layers")?;
    Ok(Description {
        vocab_size: fields::side(json, "vocab_size")?,
        hidden_size,
        context_length,
        heads,
        scale: fields::usual_scale(heads),
        score_cap: None,
        sinks: false,
        layers: vec![Place { window: None, rope: Some(0) }; layers],
        ropes: vec![fields::rope(json, heads.dim, context_length, 10_000.0)?],
        norm: Norm { kind: NormKind::Rms, eps: fields::eps(json, "rms_norm_eps", 1e-6)? },
        query_key_norm: false,
        linears: gated_linears(hidden_size, heads, middle, biases),
        feed_forward: FeedForward::Gated(fields::gate(json, &["hidden_act"], "silu")?),
        embedding_scale: None,
        tied: json.flag("tie_word_embeddings")?,
        head_bias: false,
        logit_cap: None,
        names: &LLAMA,
        gguf: Some(GGUF),
    })
}

/// `MistralForCausalLM`.
pub(super) fn describe_mistral(json: &JsonFile) -> Result<Description, ModelError> {
    let mut description = describe(json)?;
    let window = fields::window(json, description.context_length)?;
    description.layers.iter_mut().for_each(|place| place.window = window);
    Ok(description)
}
