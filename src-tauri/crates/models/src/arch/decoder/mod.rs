//! Decoder-only models as data: a family's file turns `config.json` into a [`Description`], and one engine carries it out.
//!
//! What the families share stands here once: grouped-query attention with rotary positions, a feed-forward layer, a
//! residual stream, names as in the published weights. A new family describes what it does otherwise.

mod experts;
pub(super) mod fields;
mod fused;
pub(super) mod gguf;
mod layer;
mod model;
pub(super) mod rope;
mod sizes;

use kernels::{Gate, Gelu, Heads};

#[cfg(test)]
pub(super) use self::fused::fits as is_fused;
pub(super) use self::model::{build, info};
use self::rope::Rope;
pub use self::sizes::Sizes;
pub(crate) use self::sizes::quantised_bytes;

/// A decoder-only model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub context_length: usize,
    /// Those of all layers; the windows are in [`layers`](Self::layers).
    pub heads: Heads,
    /// What a product of query and key is multiplied by.
    pub scale: f32,
    /// Scores go through `cap · tanh(score / cap)`.
    pub score_cap: Option<f32>,
    /// Whether each head has one more score, which takes its share of the probabilities and is dropped.
    pub sinks: bool,
    /// What differs from layer to layer.
    pub layers: Vec<Place>,
    /// The rotary embeddings that layers use.
    pub ropes: Vec<Rope>,
    pub norm: Norm,
    /// Whether each query and key head goes through a norm of its own before it is rotated.
    pub query_key_norm: bool,
    /// The linear layers of a decoder layer in the order they are used.
    pub linears: Vec<Linear>,
    pub feed_forward: FeedForward,
    /// Embeddings are multiplied by this.
    pub embedding_scale: Option<f64>,
    /// Whether the output projection is the embedding table.
    pub tied: bool,
    pub head_bias: bool,
    /// Logits go through `cap · tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    pub names: &'static Names,
    /// How llama.cpp calls it; `None` where it is not exported.
    pub gguf: Option<gguf::Kind>,
}

/// A decoder layer's place among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Sliding window of its attention.
    pub window: Option<usize>,
    /// Which of the rotary embeddings it uses; `None` for a layer that knows no positions.
    pub rope: Option<usize>,
}

/// The norms of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Norm {
    pub kind: NormKind,
    pub eps: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NormKind {
    /// Root mean square.
    Rms,
    /// Root mean square, with a weight that is stored less one: Gemma.
    RmsLessOne,
    /// Mean and variance, with a bias.
    Layer,
}

/// What a linear layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Q,
    K,
    V,
    /// The three above, one below the other.
    Qkv,
    O,
    Gate,
    Up,
    /// The two above, one below the other.
    GateUp,
    Down,
}

/// A linear layer of every decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Linear {
    pub slot: Slot,
    /// Its path within the decoder layer.
    pub path: &'static str,
    pub inputs: usize,
    pub outputs: usize,
    pub bias: bool,
    /// The fields of `config.json` that its sides come from.
    pub fields: &'static str,
}

/// What comes between the linear layers of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FeedForward {
    /// `down(gate · up)`.
    Gated(Gate),
    /// `down(gelu(up))`.
    Plain(Gelu),
    /// A mixture of gated experts, which have no adapters.
    Experts(Experts),
}

/// A mixture of experts: a router gives each token to a few of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Experts {
    pub count: usize,
    /// How many take part in each token.
    pub per_token: usize,
    /// Width between their two products.
    pub intermediate_size: usize,
    pub gate: Gate,
    /// Whether the weights are stored in MXFP4.
    pub mxfp4: bool,
}

/// Names of tensors, without `.weight` and `.bias`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub embeddings: &'static str,
    /// Before the number of a layer.
    pub layers: &'static str,
    pub input_norm: &'static str,
    /// Of what attention adds to the residual stream.
    pub attention_output_norm: Option<&'static str>,
    /// Before the feed-forward part. Without one, both parts take the input norm's output and are added together.
    pub feed_forward_norm: Option<&'static str>,
    /// Of what the feed-forward part adds to the residual stream.
    pub feed_forward_output_norm: Option<&'static str>,
    pub final_norm: &'static str,
    pub head: &'static str,
    /// Beginnings of names that belong to parts which are not computed: an image encoder.
    pub ignored: &'static [&'static str],
}

/// The names of Llama and of most families after it.
pub(super) const LLAMA: Names = Names {
    embeddings: "model.embed_tokens",
    layers: "model.layers",
    input_norm: "input_layernorm",
    attention_output_norm: None,
    feed_forward_norm: Some("post_attention_layernorm"),
    feed_forward_output_norm: None,
    final_norm: "model.norm",
    head: "lm_head",
    ignored: &[],
};

/// The parts of a model for texts and images that read images.
pub(super) const IMAGE_PARTS: &[&str] = &["model.vision_tower.", "model.multi_modal_projector."];

impl Description {
    /// Parameters of the model, counted from its tensors.
    pub fn parameters(&self) -> u64 {
        let wide = |n: usize| n as u64;
        let norm = |width: usize| wide(width) * if self.norm.kind == NormKind::Layer { 2 } else { 1 };
        let linears: u64 =
            self.linears.iter().map(|l| wide(l.outputs) * (wide(l.inputs) + u64::from(l.bias))).sum();
        let experts = match self.feed_forward {
            FeedForward::Experts(experts) => experts.parameters(self.hidden_size),
            FeedForward::Gated(_) | FeedForward::Plain(_) => 0,
        };
        let names = self.names;
        let more = [names.attention_output_norm, names.feed_forward_norm, names.feed_forward_output_norm];
        let norms = 1 + wide(more.iter().flatten().count());
        let heads = if self.query_key_norm { 2 * norm(self.heads.dim) } else { 0 };
        let sinks = if self.sinks { wide(self.heads.queries) } else { 0 };
        let layer = linears + experts + norms * norm(self.hidden_size) + heads + sinks;
        let table = wide(self.vocab_size) * wide(self.hidden_size);
        let head = if self.tied { 0 } else { table } + if self.head_bias { wide(self.vocab_size) } else { 0 };
        wide(self.layers.len()) * layer + table + head + norm(self.hidden_size)
    }
}

impl Experts {
    /// Of one decoder layer, the router's included.
    fn parameters(&self, hidden: usize) -> u64 {
        let (count, hidden, middle) = (self.count as u64, hidden as u64, self.intermediate_size as u64);
        count * (hidden + 1) + count * (2 * middle * (hidden + 1) + hidden * (middle + 1))
    }
}

/// Which linear layers have biases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Biases {
    pub qkv: bool,
    pub o: bool,
    pub feed_forward: bool,
}

/// The fields that the widths of queries, of keys, and of the feed-forward part come from.
const QUERIES: &str = "hidden_size, num_attention_heads and head_dim";
const KEYS: &str = "hidden_size, num_key_value_heads and head_dim";
const MIDDLE: &str = "hidden_size and intermediate_size";

/// The linear layers of attention as most families have them: q, k, v and o.
pub(super) fn attention_linears(hidden: usize, heads: Heads, biases: Biases) -> Vec<Linear> {
    let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let linear =
        |slot, path, inputs, outputs, bias, fields| Linear { slot, path, inputs, outputs, bias, fields };
    vec![
        linear(Slot::Q, "self_attn.q_proj", hidden, queries, biases.qkv, QUERIES),
        linear(Slot::K, "self_attn.k_proj", hidden, keys, biases.qkv, KEYS),
        linear(Slot::V, "self_attn.v_proj", hidden, keys, biases.qkv, KEYS),
        linear(Slot::O, "self_attn.o_proj", queries, hidden, biases.o, QUERIES),
    ]
}

/// All linear layers as most families have them: those of attention, then gate, up and down.
pub(super) fn gated_linears(hidden: usize, heads: Heads, middle: usize, biases: Biases) -> Vec<Linear> {
    let mut all = attention_linears(hidden, heads, biases);
    let bias = biases.feed_forward;
    let linear = |slot, path, inputs, outputs| Linear { slot, path, inputs, outputs, bias, fields: MIDDLE };
    all.extend([
        linear(Slot::Gate, "mlp.gate_proj", hidden, middle),
        linear(Slot::Up, "mlp.up_proj", hidden, middle),
        linear(Slot::Down, "mlp.down_proj", middle, hidden),
    ]);
    all
}

/// All linear layers with q, k and v in one, and gate and up in one: Phi-3.
pub(super) fn joined_linears(hidden: usize, heads: Heads, middle: usize) -> Vec<Linear> {
    let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let fields = "hidden_size, num_attention_heads and num_key_value_heads";
    let linear =
        |slot, path, inputs, outputs, fields| Linear { slot, path, inputs, outputs, bias: false, fields };
    vec![
        linear(Slot::Qkv, "self_attn.qkv_proj", hidden, queries + 2 * keys, fields),
        linear(Slot::O, "self_attn.o_proj", queries, hidden, fields),
        linear(Slot::GateUp, "mlp.gate_up_proj", hidden, 2 * middle, MIDDLE),
        linear(Slot::Down, "mlp.down_proj", middle, hidden, MIDDLE),
    ]
}
