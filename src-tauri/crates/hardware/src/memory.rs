//! How much memory a run or a chat needs at its peak, from the model's shape and the settings.
//!
//! The terms follow what the engine does, tensor by tensor, and are checked against its measured peaks. Below, `T` are
//! the tokens of a micro-batch, `H`, `Q`, `K`, `I` and `V` the widths of the residual stream, of all queries, of all
//! keys, of the feed-forward layer and of the vocabulary, `L` the layers, `r` the adapter's rank, and `d` the bytes of a
//! value: 4 in f32, 2 in bf16.

use schemars::JsonSchema;
use serde::Serialize;
use types::Optim;

use crate::{MemoryPlan, ModelShape, plan::F32, shape::Linear};

/// The process itself: code, threads, tokenizer, buffers of the matrix products. Measured.
const PROCESS: u64 = 24 << 20;
/// What a tokenizer keeps for each entry of its vocabulary and its merges. Measured.
const TOKENIZER_ENTRY: u64 = 1 << 10;
/// Elements of the logits that exist at a time, and rows they are computed for at most.
const LOGITS: u64 = 1 << 22;
const LOGIT_ROWS: u64 = 1024;
/// Values of a block of 8-bit optimizer state that share a scale, and the size below which state stays in f32.
const BLOCK: u64 = 256;
const SMALLEST_8BIT: u64 = 4096;
/// Tokens of a prompt that a chat computes at a time.
const PROMPT_CHUNK: u64 = 512;
/// Tokens by which a chat's cache grows.
const CACHE_STEP: u64 = 256;

/// The memory of a run or a chat at its peak, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct MemoryEstimate {
    /// The frozen base weights.
    pub weights: u64,
    /// The adapter, in f32.
    pub adapter: u64,
    /// The adapter's gradients.
    pub gradients: u64,
    /// The optimizer's state.
    pub optimizer: u64,
    /// What the backward pass needs of the forward pass, and the largest working set of one layer.
    pub activations: u64,
    /// Logits and the gradient of the last hidden states.
    pub logits: u64,
    /// Keys and values of the tokens a chat remembers.
    pub kv_cache: u64,
    /// What writing a checkpoint needs beyond what a step has freed by then.
    pub saving: u64,
    /// The process itself.
    pub runtime: u64,
    /// All of these together.
    pub total: u64,
}

/// Whether something fits into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// It fits, even where the estimate is a fifth too low.
    Fits,
    /// It fits if the estimate is right and no other program takes memory meanwhile.
    Tight,
    /// It does not fit.
    TooLarge,
}

/// The estimate is this much off at most (`tests/memory.rs` of the root package), in percent.
pub const MARGIN_PERCENT: u64 = 20;

impl Fit {
    /// Whether `needed` bytes fit into `free` ones.
    pub fn of(needed: u64, free: u64) -> Self {
        if needed.saturating_add(needed / 100 * MARGIN_PERCENT) <= free {
            Fit::Fits
        } else if needed <= free {
            Fit::Tight
        } else {
            Fit::TooLarge
        }
    }
}

impl MemoryEstimate {
    fn sum(self) -> Self {
        let parts = [
            self.weights,
            self.adapter,
            self.gradients,
            self.optimizer,
            self.activations,
            self.logits,
            self.kv_cache,
            self.saving,
            self.runtime,
        ];
        Self { total: parts.into_iter().fold(0, u64::saturating_add), ..self }
    }
}

/// The peak of a training run.
///
/// ```text
/// weights      d · (parameters of the base model)
/// adapter      4 · P, with P = L · Σ r (in + out) over the adapted linear layers
/// optimizer    8 · P for AdamW, 2 · P and 4 bytes a block of 256 for its 8-bit form, 0 for SGD
/// gradients    4 · P summed over micro-batches, and 4 · P (4 · P / L with checkpointing) of the one under way
/// activations  with checkpointing: L · T H d (the layers' inputs) + one layer + its backward pass
///              without: L · one layer + the backward pass of one
/// logits       4 · V · (rows computed at a time) + 16 · T H
/// saving       copies of adapter and optimizer state in the layout of their file, less what a step has freed by then
/// ```
///
/// One layer and its backward pass: see the functions below.
pub fn estimate_memory(shape: &ModelShape, plan: &MemoryPlan) -> MemoryEstimate {
    let batch = Batch::training(plan);
    let trainable = F32.saturating_mul(plan.adapter_parameters(shape));
    let optimizer = optimizer_state(shape, plan);
    let layer = layer_activations(shape, plan, &batch, plan.dropout);
    let input = batch.tokens.saturating_mul(shape.hidden_size * plan.width());
    let kept = if plan.gradient_checkpointing {
        shape.layers.saturating_mul(input).saturating_add(layer)
    } else {
        shape.layers.saturating_mul(layer)
    };
    let training = kept.saturating_add(backward_working_set(shape, plan, &batch));
    let evaluation = match Batch::evaluation(plan) {
        Some(batch) => layer_activations(shape, plan, &batch, false),
        None => 0,
    };
    let fresh = if plan.gradient_checkpointing { trainable / shape.layers.max(1) } else { trainable };
    let gradients = trainable.saturating_add(fresh);
    let activations = training.max(evaluation);
    let logits = loss_working_set(shape, &batch);
    let freed = gradients.saturating_add(activations).saturating_add(logits);
    let copies = trainable.saturating_add(optimizer).saturating_add(trainable.max(optimizer));
    MemoryEstimate {
        weights: base_weights(shape, plan.bf16),
        adapter: trainable,
        gradients,
        optimizer,
        activations,
        logits,
        kv_cache: 0,
        saving: copies.saturating_sub(freed),
        runtime: runtime(shape),
        total: 0,
    }
    .sum()
}

/// The peak of a chat that has come to `tokens`, prompt and answers together; `adapter` is the rank of the tuned model's
/// adapter on all linear layers, `None` for a base model.
///
/// The cache holds `2 · L · K · d` bytes a token, with room for half as many again. The prompt is computed in pieces of
/// 512 tokens; with an adapter, the engine keeps the activations of a whole piece.
pub fn estimate_chat_memory(
    shape: &ModelShape,
    bf16: bool,
    adapter: Option<u64>,
    tokens: u64,
) -> MemoryEstimate {
    let tokens = tokens.clamp(1, shape.context_length.max(1));
    let plan = MemoryPlan {
        bf16,
        lora_r: adapter.unwrap_or(0),
        target_modules: if adapter.is_some() { None } else { Some(Vec::new()) },
        dropout: false,
        batch_size: 1,
        eval_batch_size: 0,
        max_seq_length: tokens,
        longest_row: tokens,
        packing: false,
        gradient_checkpointing: false,
        optim: Optim::Sgd,
    };
    let batch = Batch { tokens: tokens.min(PROMPT_CHUNK), span: tokens, sequences: 1 };
    let layer = layer_activations(shape, &plan, &batch, false);
    let layers = if adapter.is_some() { shape.layers } else { 1 };
    let room = (tokens + tokens / 2).next_multiple_of(CACHE_STEP);
    let cached = 2 * shape.key_width() * plan.width();
    MemoryEstimate {
        weights: base_weights(shape, bf16),
        adapter: F32.saturating_mul(plan.adapter_parameters(shape)),
        activations: layers.saturating_mul(layer),
        logits: 3 * F32 * shape.vocab_size,
        kv_cache: shape.layers.saturating_mul(room).saturating_mul(cached),
        runtime: runtime(shape),
        ..MemoryEstimate::default()
    }
    .sum()
}

/// Tokens computed together.
struct Batch {
    /// In all.
    tokens: u64,
    /// Keys that a query meets.
    span: u64,
    /// Sequences that do not see each other.
    sequences: u64,
}

impl Batch {
    fn training(plan: &MemoryPlan) -> Self {
        let tokens = plan.batch_size.saturating_mul(plan.max_seq_length);
        Self { tokens, span: plan.longest_row, sequences: tokens.div_ceil(plan.longest_row.max(1)) }
    }

    fn evaluation(plan: &MemoryPlan) -> Option<Self> {
        let tokens = plan.eval_batch_size.saturating_mul(plan.longest_row);
        (tokens > 0).then_some(Self { tokens, span: plan.longest_row, sequences: plan.eval_batch_size })
    }
}

impl MemoryPlan {
    /// Bytes of a value of the activations.
    fn width(&self) -> u64 {
        if self.bf16 { 2 } else { F32 }
    }
}

/// Bytes that one token's values take in one decoder layer.
pub(crate) fn layer_bytes(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let batch = Batch { tokens: 1, span: plan.longest_row, sequences: 1 };
    layer_activations(shape, plan, &batch, plan.dropout)
}

fn base_weights(shape: &ModelShape, bf16: bool) -> u64 {
    shape.parameters().saturating_mul(if bf16 { 2 } else { F32 })
}

fn runtime(shape: &ModelShape) -> u64 {
    PROCESS + TOKENIZER_ENTRY * shape.vocab_size
}

fn optimizer_state(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let adam = |len: u64| 2 * F32 * len;
    let state = |len: u64| match plan.optim {
        Optim::AdamwTorch | Optim::PagedAdamw32bit => adam(len),
        Optim::Adamw8bit if len < SMALLEST_8BIT => adam(len),
        Optim::Adamw8bit => 2 * (len + F32 * len.div_ceil(BLOCK)),
        Optim::Sgd => 0,
    };
    let layer: u64 = shape
        .linears()
        .iter()
        .filter(|linear| plan.adapts(linear))
        .map(|linear| state(plan.lora_r * linear.inputs) + state(plan.lora_r * linear.outputs))
        .sum();
    shape.layers.saturating_mul(layer)
}

/// What the tape keeps of one decoder layer, its input included:
///
/// ```text
/// linear layers  Σ d · out, and where one is adapted 4 · in (dropout) + 8 · r + 8 · out;
///                in bf16 also 4 · in + 6 · out for values widened and rounded
/// attention      d · (2 Q + 3 K) rotated and split into heads, 8 · Q mixed, 8 bytes a score: heads · T · span;
///                in bf16 also 4 · (Q + 2 K) + 2 · Q; with several sequences d · Q
/// the rest       d · (4 H + I): input, two norms, the sum after attention, the gated product
/// ```
fn layer_activations(shape: &ModelShape, plan: &MemoryPlan, batch: &Batch, dropout: bool) -> u64 {
    let (width, queries, keys) = (plan.width(), shape.query_width(), shape.key_width());
    let linear = |l: &Linear| {
        if !plan.adapts(l) {
            return width * l.outputs;
        }
        let kept = if dropout { F32 * l.inputs } else { 0 };
        let widened = if plan.bf16 { F32 * l.inputs + 6 * l.outputs } else { 0 };
        width * l.outputs + kept + 2 * F32 * plan.lora_r + 2 * F32 * l.outputs + widened
    };
    let linears: u64 = shape.linears().iter().map(linear).sum();
    let widened = if plan.bf16 { F32 * (queries + 2 * keys) + width * queries } else { 0 };
    let joined = if batch.sequences > 1 { width * queries } else { 0 };
    let attention = width * (2 * queries + 3 * keys) + 2 * F32 * queries + widened + joined;
    let rest = width * (4 * shape.hidden_size + shape.intermediate_size);
    let scores = 2 * F32 * shape.heads * batch.span;
    batch.tokens.saturating_mul(linears + attention + rest + scores)
}

/// The largest set of gradients that exist together in a layer's backward pass: four copies of the scores of one
/// sequence, or six of the gate's values (five in bf16), and three of the residual stream's.
fn backward_working_set(shape: &ModelShape, plan: &MemoryPlan, batch: &Batch) -> u64 {
    let scores = (4 * F32 * shape.heads).saturating_mul(batch.span).saturating_mul(batch.span);
    let copies = if plan.bf16 { 5 } else { 6 };
    let gate = batch.tokens.saturating_mul(copies * F32 * shape.intermediate_size);
    let residual = batch.tokens.saturating_mul(3 * plan.width() * shape.hidden_size);
    scores.max(gate).saturating_add(residual)
}

/// Logits of the rows computed at a time, and four copies of the gradient of the last hidden states.
fn loss_working_set(shape: &ModelShape, batch: &Batch) -> u64 {
    let rows = (LOGITS / shape.vocab_size.max(1)).clamp(1, LOGIT_ROWS).min(batch.tokens);
    let gradient = batch.tokens.saturating_mul(4 * F32 * shape.hidden_size);
    (rows * F32 * shape.vocab_size).saturating_add(gradient)
}
