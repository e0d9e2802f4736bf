//! Described models in llama.cpp's words, as `convert_hf_to_gguf.py` writes them.

use super::{Description, FeedForward, NormKind, Slot, rope::Scaling};
use crate::{
    ModelError,
    export::gguf::{Layout, Mapping, Value},
};

/// A family in llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) struct Kind {
    /// Its name there.
    pub architecture: &'static str,
    /// Whether it rotates neighbouring pairs of a head's dimensions where the published weights pair the two halves of a
    /// head, so that the rows of the query and key projections change places.
    pub interleaved: bool,
}

/// Names, places and metadata of a model's tensors.
///
/// llama.cpp has no sliding window in these architectures: longer texts than Mistral's window are attended to whole.
pub(in crate::arch) fn layout(description: &Description, kind: Kind) -> Result<Layout, ModelError> {
    let names = description.names;
    let weight = |name: &str| format!("{name}.weight");
    let mut tensors = vec![Mapping::new(weight(names.embeddings), "token_embd.weight")];
    for layer in 0..description.layers.len() {
        let from = |name: &str| format!("{}.{layer}.{name}", names.layers);
        let to = |name: &str| format!("blk.{layer}.{name}");
        tensors.push(Mapping::new(weight(&from(names.input_norm)), to("attn_norm.weight")));
        if let Some(norm) = names.feed_forward_norm {
            tensors.push(Mapping::new(weight(&from(norm)), to("ffn_norm.weight")));
        }
        if description.query_key_norm {
            for (norm, name) in [("q_norm", "attn_q_norm.weight"), ("k_norm", "attn_k_norm.weight")] {
                tensors.push(Mapping::new(weight(&from(&format!("self_attn.{norm}"))), to(name)));
            }
        }
        for linear in &description.linears {
            let (name, heads) = match linear.slot {
                Slot::Q => ("attn_q", Some(description.heads.queries)),
                Slot::K => ("attn_k", Some(description.heads.keys)),
                Slot::V => ("attn_v", None),
                Slot::O => ("attn_output", None),
                Slot::Gate => ("ffn_gate", None),
                Slot::Up => ("ffn_up", None),
                Slot::Down => ("ffn_down", None),
                Slot::Qkv | Slot::GateUp => return Err(unknown()),
            };
            for part in ["weight", "bias"].into_iter().take(1 + usize::from(linear.bias)) {
                let (from, to) = (from(&format!("{}.{part}", linear.path)), to(&format!("{name}.{part}")));
                let heads = heads.filter(|_| kind.interleaved);
                tensors.push(Mapping { heads, ..Mapping::new(from, to) });
            }
        }
    }
    tensors.push(Mapping::new(weight(names.final_norm), "output_norm.weight"));
    if !description.tied {
        tensors.push(Mapping::new(weight(names.head), "output.weight"));
    }
    let [rope] = description.ropes.as_slice() else { return Err(unknown()) };
    let metadata = metadata(description, kind)?;
    Ok(Layout { architecture: kind.architecture, metadata, tensors, rope_divisors: rope.divisors() })
}

fn unknown() -> ModelError {
    ModelError::Export("this model's layers have no names in GGUF here; export as safetensors instead".into())
}

fn metadata(description: &Description, kind: Kind) -> Result<Vec<(String, Value)>, ModelError> {
    let size = |n: usize| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
    let heads = description.heads;
    let middle = description.linears.iter().find(|linear| linear.slot == Slot::Down);
    let (Some(middle), [rope]) = (middle, description.ropes.as_slice()) else { return Err(unknown()) };
    if description.norm.kind != NormKind::Rms || !matches!(description.feed_forward, FeedForward::Gated(_)) {
        return Err(unknown());
    }
    let mut fields = vec![
        ("block_count", size(description.layers.len())),
        ("context_length", size(description.context_length)),
        ("embedding_length", size(description.hidden_size)),
        ("feed_forward_length", size(middle.inputs)),
        ("attention.head_count", size(heads.queries)),
        ("attention.head_count_kv", size(heads.keys)),
        ("attention.key_length", size(heads.dim)),
        ("attention.value_length", size(heads.dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(description.norm.eps)),
        ("rope.freq_base", Value::F32(rope.theta)),
        ("rope.dimension_count", size(rope.width)),
        ("vocab_size", size(description.vocab_size)),
    ];
    let text = |text: &str| Value::Text(text.into());
    match &rope.scaling {
        Scaling::None | Scaling::Llama3 { .. } => {}
        Scaling::Linear { factor } => {
            fields.push(("rope.scaling.type", text("linear")));
            fields.push(("rope.scaling.factor", Value::F32(*factor)));
        }
        Scaling::Yarn(yarn) => {
            fields.push(("rope.scaling.type", text("yarn")));
            fields.push(("rope.scaling.factor", Value::F32(yarn.factor)));
            fields.push(("rope.scaling.original_context_length", size(yarn.original)));
        }
        Scaling::Long { .. } => return Err(unknown()),
    }
    Ok(fields.into_iter().map(|(name, value)| (format!("{}.{name}", kind.architecture), value)).collect())
}
