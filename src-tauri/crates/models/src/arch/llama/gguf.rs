//! The Llama shape in llama.cpp's words: its `llama` architecture, as `convert_hf_to_gguf.py` writes it.
//!
//! llama.cpp rotates neighbouring pairs of a head's dimensions where the published weights pair the two halves of a head,
//! so the rows of the query and key projections change places. It has no sliding window for this architecture: longer
//! texts than Mistral's window are attended to whole.

use super::{
    LINEARS,
    config::{Config, Scaling},
    rope,
};
use crate::{
    ModelError,
    export::gguf::{Layout, Mapping, Value},
    json::JsonFile,
};

/// The linear layers' names there, in the order of [`LINEARS`].
const NAMES: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// Names, places and metadata of the model that `json` describes.
pub(in crate::arch) fn layout(json: &JsonFile) -> Result<Layout, ModelError> {
    let config = Config::parse(json)?;
    let mut tensors = vec![Mapping::new("model.embed_tokens.weight", "token_embd.weight")];
    for layer in 0..config.layers {
        let from = |name: &str| format!("model.layers.{layer}.{name}");
        let to = |name: &str| format!("blk.{layer}.{name}");
        tensors.push(Mapping::new(from("input_layernorm.weight"), to("attn_norm.weight")));
        tensors.push(Mapping::new(from("post_attention_layernorm.weight"), to("ffn_norm.weight")));
        for (linear, name) in LINEARS.iter().zip(NAMES) {
            let heads = match name {
                "attn_q" => Some(config.heads.queries),
                "attn_k" => Some(config.heads.keys),
                _ => None,
            };
            let has_bias = if linear.starts_with("mlp") { config.mlp_bias } else { config.attention_bias };
            for part in ["weight", "bias"].into_iter().take(1 + usize::from(has_bias)) {
                let (from, to) = (from(&format!("{linear}.{part}")), to(&format!("{name}.{part}")));
                tensors.push(Mapping { heads, ..Mapping::new(from, to) });
            }
        }
    }
    tensors.push(Mapping::new("model.norm.weight", "output_norm.weight"));
    if !config.tied {
        tensors.push(Mapping::new("lm_head.weight", "output.weight"));
    }
    Ok(Layout {
        architecture: "llama",
        metadata: metadata(&config),
        tensors,
        rope_divisors: rope::divisors(&config),
    })
}

fn metadata(config: &Config) -> Vec<(String, Value)> {
    let size = |n: usize| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
    let heads = config.heads;
    let mut fields = vec![
        ("block_count", size(config.layers)),
        ("context_length", size(config.context_length)),
        ("embedding_length", size(config.hidden_size)),
        ("feed_forward_length", size(config.intermediate_size)),
        ("attention.head_count", size(heads.queries)),
        ("attention.head_count_kv", size(heads.keys)),
        ("attention.key_length", size(heads.dim)),
        ("attention.value_length", size(heads.dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.eps)),
        ("rope.freq_base", Value::F32(config.rope_theta)),
        ("rope.dimension_count", size(heads.dim)),
        ("vocab_size", size(config.vocab_size)),
    ];
    if let Scaling::Linear { factor } = config.scaling {
        fields.push(("rope.scaling.type", Value::Text("linear".into())));
        fields.push(("rope.scaling.factor", Value::F32(factor)));
    }
    fields.into_iter().map(|(name, value)| (format!("llama.{name}"), value)).collect()
}
