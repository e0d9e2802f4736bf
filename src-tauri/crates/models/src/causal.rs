//! What training, evaluation and chat need of a decoder-only language model: one definition serves all three.

use candle_core::{Device, Result, Tensor, Var};

/// Facts about a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Architecture as `config.json` names it.
    pub architecture: String,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder layers.
    pub layers: usize,
    /// The longest sequence the positions are made for.
    pub context_length: usize,
    /// Parameters of the base model.
    pub parameters: u64,
    /// dtype of the base weights and activations: `f32` or `bf16`.
    pub dtype: String,
}

/// Lengths of the sequences that lie end to end in a `[tokens, …]` tensor, and the position of each token.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// Length of each; sums to the number of tokens.
    pub lengths: Vec<usize>,
    /// Position of the first token of each: 0 in training, the length of the cache in decoding.
    pub offset: usize,
}

impl Sequences {
    /// Sequences that all start at position 0.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self { lengths, offset: 0 }
    }

    /// One sequence of `length` tokens that goes on after `offset` cached ones.
    pub fn continued(length: usize, offset: usize) -> Self {
        Self { lengths: vec![length], offset }
    }

    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }
}

/// How one pass through the layers is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether the adapter takes part; without it the base model answers.
    pub adapter: bool,
    /// Dropout on the adapter's input, drawn from this seed: the same seed gives the same masks, so that a layer can
    /// be computed again in the backward pass. `None` outside training.
    pub dropout_seed: Option<u64>,
}

impl Pass {
    /// Evaluation and chat: adapter on, no dropout.
    pub const EVAL: Pass = Pass { adapter: true, dropout_seed: None };
    /// The base model alone.
    pub const BASE: Pass = Pass { adapter: false, dropout_seed: None };
}

/// Keys and values of the tokens one layer has already seen.
#[derive(Debug, Default, Clone)]
pub struct LayerCache {
    /// `[kv_heads, cached, head_dim]` each.
    pub keys_values: Option<(Tensor, Tensor)>,
}

/// A decoder-only language model, layer by layer, so that the caller decides what to keep for the backward pass.
///
/// Hidden states are `[tokens, hidden]`, sequences end to end as [`Sequences`] says.
pub trait CausalLm: Send + Sync {
    /// Facts about it.
    fn info(&self) -> &ModelInfo;

    /// Where its tensors are.
    fn device(&self) -> &Device;

    /// Token embeddings: `[tokens]` u32 → `[tokens, hidden]`.
    fn embed(&self, ids: &Tensor) -> Result<Tensor>;

    /// One decoder layer: `[tokens, hidden]` → `[tokens, hidden]`. With a cache there is one sequence, which goes on
    /// after the cached tokens.
    fn layer(
        &self,
        index: usize,
        hidden: &Tensor,
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor>;

    /// The norm after the last layer: `[tokens, hidden]` → `[tokens, hidden]`.
    fn final_norm(&self, hidden: &Tensor) -> Result<Tensor>;

    /// The frozen output projection, `[vocab, hidden]`.
    fn head(&self) -> &Tensor;

    /// Tensors of the adapter by PEFT's names, such as
    /// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, in a fixed order. Empty without an adapter.
    fn trainable(&self) -> Vec<(String, Var)>;

    /// Logits of chosen rows of a `[tokens, hidden]` tensor that has gone through all layers, f32 `[rows, vocab]`.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;
}
