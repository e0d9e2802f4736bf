//! How much memory a run or a chat needs at its peak, from the model's shape and the settings.
//!
//! The terms follow what the engine does, tensor by tensor, and are checked against its measured peaks. Below, `T` are
//! the tokens that are computed at once, `H`, `Q`, `K`, `I` and `V` the widths of the residual stream, of all queries, of all
//! keys, of the feed-forward layer and of the vocabulary, `L` the layers, `r` the adapter's rank, and `d` the bytes of a
//! value: 4 in f32, 2 in bf16.

use schemars::JsonSchema;
use serde::Serialize;
use types::{Optim, config::Quantisation};

use crate::{MemoryPlan, ModelShape, card_memory, plan::F32, shape::Linear};

/// The process itself, in training and in a chat: code, threads, tokenizer, buffers of the matrix products. Measured.
const TRAINING_PROCESS: u64 = 24 << 20;
const CHAT_PROCESS: u64 = 16 << 20;
/// What a tokenizer keeps for each entry of its vocabulary and its merges, beyond what loading the weights takes up again.
/// Measured.
const TOKENIZER_ENTRY: u64 = 256;
/// Elements of the logits that exist at a time, and rows they are computed for at most.
const LOGITS: u64 = 1 << 22;
const LOGIT_ROWS: u64 = 1024;
/// Elements of the logits that the fused kernels hold at a time in bf16; in f32 twice as many, or those of so many rows.
const FUSED_LOGITS: u64 = 1 << 22;
const FUSED_LOGIT_ROWS: u64 = 128;
/// Values of a block of 8-bit optimizer state that share a scale, and the size below which state stays in f32.
const BLOCK: u64 = 256;
const SMALLEST_8BIT: u64 = 4096;
/// Short micro-batches of a step are computed together, as many of the largest as stay within so many tokens.
const JOINED_TOKENS: u64 = 512;
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
    /// The copy that a checkpoint is written from while training goes on.
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

/// The estimate is this much off at most (`tests/estimates.rs` of the root package), in percent.
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
    pub(crate) fn sum(self) -> Self {
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
/// weights      d · (parameters of the base model); of linear layers that are quantised half a byte, or one, and their scales
/// adapter      4 · P, with P = L · Σ r (in + out) over the adapted linear layers
/// optimizer    8 · P for AdamW, 2 · P and 4 bytes a block of 256 for its 8-bit form, 0 for SGD
/// gradients    4 · P summed over micro-batches, and 4 · P (4 · P / L with checkpointing) of the one under way
/// activations  with checkpointing: L · T H d (the layers' inputs) + one layer + its backward pass
///              without: L · one layer + the backward pass of one
/// logits       4 · V · (rows computed at a time) + 16 · T H
/// kv_cache     that of a chat, for each answer of a rollout
/// saving       a copy of adapter and optimizer state, from which a checkpoint is written while steps are done
/// ```
///
/// One layer and its backward pass: see the functions below. On a card see `card_memory`; what there are no kernels of ours for is
/// computed in f32 there, as the reference on the processor computes it, with all that it keeps on the card: an upper bound.
pub fn estimate_memory(shape: &ModelShape, plan: &MemoryPlan) -> MemoryEstimate {
    if plan.card {
        if plan.fused {
            return card_memory::estimate(shape, plan);
        }
        let reference = estimate_memory(shape, &MemoryPlan { card: false, bf16: false, ..plan.clone() });
        let weights = base_weights(shape, plan.bf16, plan.quantised);
        let runtime = card_memory::CONTEXT;
        return MemoryEstimate { weights, saving: 0, runtime, ..reference }.sum();
    }
    let batch = Batch::training(plan);
    let trainable = F32.saturating_mul(plan.adapter_parameters(shape));
    let optimizer = optimizer_state(shape, plan);
    // Of an encoder-decoder, every token is reckoned with in both stacks: how many are in sources depends on the rows.
    let stacks = shape.stacks();
    let layers: u64 = stacks.iter().map(|stack| stack.layers).sum();
    let of = |stack: &ModelShape| layer_activations(stack, plan, &batch, plan.dropout);
    let layer = stacks.iter().map(of).max().unwrap_or(0);
    let residual = if plan.fused { F32 } else { plan.width() };
    let input = batch.tokens.saturating_mul(shape.hidden_size * residual);
    let kept = if plan.gradient_checkpointing {
        layers.saturating_mul(input).saturating_add(layer)
    } else {
        stacks.iter().map(|stack| stack.layers.saturating_mul(of(stack))).fold(0, u64::saturating_add)
    };
    let working = if plan.fused {
        fused_working_set(shape, plan, &batch)
    } else {
        backward_working_set(shape, plan, &batch)
    };
    let training = kept.saturating_add(working);
    let evaluation = match Batch::evaluation(plan) {
        Some(batch) => layer_activations(shape, plan, &batch, false),
        None => 0,
    };
    let fresh = if plan.gradient_checkpointing { trainable / layers.max(1) } else { trainable };
    let gradients = trainable.saturating_add(fresh);
    let activations = training.max(evaluation);
    let logits = loss_working_set(shape, plan, &batch);
    MemoryEstimate {
        weights: base_weights(shape, plan.bf16, plan.quantised),
        adapter: trainable,
        gradients,
        optimizer,
        activations,
        logits,
        // The answers of a rollout are written together, each with a cache of its own.
        kv_cache: plan.rollout.saturating_mul(kv_cache(shape, plan, plan.longest_row)),
        saving: trainable.saturating_add(optimizer),
        runtime: TRAINING_PROCESS + tokenizer(shape),
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
    quantised: Option<Quantisation>,
    adapter: Option<u64>,
    tokens: u64,
) -> MemoryEstimate {
    let tokens = tokens.clamp(1, shape.context_length.max(1));
    let plan = MemoryPlan {
        card: false,
        fused: false,
        bf16,
        quantised,
        lora_r: adapter.unwrap_or(0),
        target_modules: if adapter.is_some() { None } else { Some(Vec::new()) },
        dropout: false,
        batch_size: 1,
        accumulation: 1,
        eval_batch_size: 0,
        rollout: 0,
        max_seq_length: tokens,
        longest_row: tokens,
        packing: false,
        gradient_checkpointing: false,
        activation_offloading: false,
        optim: Optim::Sgd,
    };
    let batch = Batch { tokens: tokens.min(PROMPT_CHUNK), span: tokens, sequences: 1 };
    let layers = |stack: &ModelShape| if adapter.is_some() { stack.layers } else { 1 };
    let kept =
        |stack: &ModelShape| layers(stack).saturating_mul(layer_activations(stack, &plan, &batch, false));
    let activations = shape.stacks().iter().map(kept).fold(0, u64::saturating_add);
    MemoryEstimate {
        weights: base_weights(shape, bf16, quantised),
        adapter: F32.saturating_mul(plan.adapter_parameters(shape)),
        activations,
        logits: if shape.writes() { 3 * F32 * shape.vocab_size } else { 0 },
        kv_cache: kv_cache(shape, &plan, tokens),
        runtime: CHAT_PROCESS + tokenizer(shape),
        ..MemoryEstimate::default()
    }
    .sum()
}

/// Tokens computed together.
pub(crate) struct Batch {
    /// In all.
    pub tokens: u64,
    /// Keys that a query meets.
    span: u64,
    /// Sequences that do not see each other.
    sequences: u64,
}

impl Batch {
    pub fn training(plan: &MemoryPlan) -> Self {
        let micro_batch = plan.batch_size.saturating_mul(plan.max_seq_length);
        let joined = (JOINED_TOKENS / micro_batch.max(1)).clamp(1, plan.accumulation.max(1));
        let tokens = micro_batch.saturating_mul(joined);
        Self { tokens, span: plan.longest_row, sequences: tokens.div_ceil(plan.longest_row.max(1)) }
    }

    pub fn evaluation(plan: &MemoryPlan) -> Option<Self> {
        let tokens = plan.eval_batch_size.saturating_mul(plan.longest_row);
        (tokens > 0).then_some(Self { tokens, span: plan.longest_row, sequences: plan.eval_batch_size })
    }
}

/// The keys and values of one sequence in all layers.
pub(crate) fn kv_cache(shape: &ModelShape, plan: &MemoryPlan, tokens: u64) -> u64 {
    if !shape.writes() {
        return 0;
    }
    let room = (tokens + tokens / 2).next_multiple_of(CACHE_STEP);
    let cached = 2 * shape.key_width() * plan.width();
    shape.layers.saturating_mul(room).saturating_mul(cached * shape.attentions())
}

impl MemoryPlan {
    /// Bytes of a value of the activations.
    pub(crate) fn width(&self) -> u64 {
        if self.bf16 { 2 } else { F32 }
    }

    /// Bytes of a value that the fused kernels keep for the backward pass.
    pub(crate) fn kept_width(&self) -> u64 {
        if self.bf16_products() { 2 } else { F32 }
    }
}

/// Bytes that one token's values take in one decoder layer.
pub(crate) fn layer_bytes(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let batch = Batch { tokens: 1, span: plan.longest_row, sequences: 1 };
    layer_activations(shape, plan, &batch, plan.dropout)
}

pub(crate) fn base_weights(shape: &ModelShape, bf16: bool, quantised: Option<Quantisation>) -> u64 {
    let width = if bf16 { 2 } else { F32 };
    let Some(quantised) = quantised else { return shape.parameters().saturating_mul(width) };
    let of = |stack: &ModelShape| stack.layers.saturating_mul(stack.linear_weights());
    let linear = shape.stacks().iter().map(of).fold(0, u64::saturating_add);
    shape.parameters().saturating_sub(linear).saturating_mul(width).saturating_add(quantised.bytes(linear))
}

fn tokenizer(shape: &ModelShape) -> u64 {
    TOKENIZER_ENTRY * shape.vocab_size
}

pub(crate) fn optimizer_state(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let adam = |len: u64| 2 * F32 * len;
    let state = |len: u64| match plan.optim {
        Optim::AdamwTorch | Optim::PagedAdamw32bit => adam(len),
        Optim::Adamw8bit if len < SMALLEST_8BIT => adam(len),
        Optim::Adamw8bit => 2 * (len + F32 * len.div_ceil(BLOCK)),
        Optim::Sgd => 0,
    };
    let of = |stack: &ModelShape| stack.layers.saturating_mul(layer_state(stack, plan, &state));
    shape.stacks().iter().map(of).fold(0, u64::saturating_add)
}

/// The state of the adapters of one layer.
fn layer_state(stack: &ModelShape, plan: &MemoryPlan, state: &dyn Fn(u64) -> u64) -> u64 {
    stack
        .linears()
        .iter()
        .filter(|linear| plan.adapts(linear))
        .map(|linear| state(plan.lora_r * linear.inputs) + state(plan.lora_r * linear.outputs))
        .sum()
}

/// What the tape keeps of one decoder layer, its input included:
///
/// ```text
/// linear layers  Σ d · out, and where one is adapted 4 · in (dropout) + 8 · r + 8 · out;
///                in bf16 also 4 · in + 6 · out for values widened and rounded
/// attention      d · (2 Q + 3 K) rotated and split into heads, 8 · Q mixed, 8 bytes a score: heads · T · span;
///                in bf16 also 4 · (Q + 2 K) + 2 · Q; with several sequences d · Q
/// the rest       d · (4 H + I): input, two norms, the sum after attention, the gated product; of n experts a token n · (3 I + 2 H)
/// ```
fn layer_activations(shape: &ModelShape, plan: &MemoryPlan, batch: &Batch, dropout: bool) -> u64 {
    if plan.fused {
        return fused_activations(shape, plan, batch);
    }
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
    let attentions = shape.attentions();
    let middle = if shape.experts == 0 { shape.intermediate_size } else { shape.expert_values() };
    let rest = width * (4 * shape.hidden_size + middle);
    let scores = 2 * F32 * shape.heads * batch.span;
    batch.tokens.saturating_mul(linears + attentions * (attention + scores) + rest)
}

/// What a fused decoder layer keeps, its input included:
///
/// ```text
/// input       4 · H: the residual stream is f32
/// the rest    d · (H + 2 Q + 2 K + 2 I): the sum after attention, queries, keys, values, mixed values, gate and up
/// by the row  4 · heads: logarithms of sums; 4 · r of each adapter
/// ```
fn fused_activations(shape: &ModelShape, plan: &MemoryPlan, batch: &Batch) -> u64 {
    let (queries, keys) = (shape.query_width(), shape.key_width());
    let adapters = shape.linears().iter().filter(|l| plan.adapts(l)).count() as u64;
    let wide = F32 * shape.hidden_size + F32 * shape.heads + F32 * plan.lora_r * adapters;
    let values = plan.kept_width() * (shape.hidden_size + 2 * (queries + keys + shape.intermediate_size));
    batch.tokens.saturating_mul(wide + values)
}

/// The largest set of temporary values in the backward pass of a fused layer: of its feed-forward part, the gradient of
/// the gated product, once more in f32 with dropout, and the product itself or packed gradients; and four of the residual
/// stream.
fn fused_working_set(shape: &ModelShape, plan: &MemoryPlan, batch: &Batch) -> u64 {
    let masked = if plan.dropout { F32 } else { 0 };
    let gated = (masked + 2 * plan.kept_width()) * shape.intermediate_size;
    let residual = 4 * F32 * shape.hidden_size;
    batch.tokens.saturating_mul(gated + residual)
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
fn loss_working_set(shape: &ModelShape, plan: &MemoryPlan, batch: &Batch) -> u64 {
    let logits = if !shape.writes() {
        2 * batch.tokens
    } else if plan.fused {
        let most = if plan.bf16 {
            FUSED_LOGITS
        } else {
            (2 * FUSED_LOGITS).max(FUSED_LOGIT_ROWS * shape.vocab_size)
        };
        batch.tokens.saturating_mul(shape.vocab_size).min(most)
    } else {
        let rows = (LOGITS / shape.vocab_size.max(1)).clamp(1, LOGIT_ROWS);
        rows.min(batch.tokens) * shape.vocab_size
    };
    let gradient = batch.tokens.saturating_mul(4 * F32 * shape.hidden_size);
    (F32 * logits).saturating_add(gradient)
}

#[cfg(test)]
mod tests {
    use types::config::QuantCodes;

    use super::*;

    /// SmolLM2 135M.
    fn shape() -> ModelShape {
        ModelShape {
            hidden_size: 576,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            intermediate_size: 1536,
            vocab_size: 49152,
            tied_embeddings: true,
            context_length: 8192,
            ..ModelShape::default()
        }
    }

    fn plan() -> MemoryPlan {
        MemoryPlan {
            card: false,
            fused: false,
            bf16: false,
            quantised: None,
            lora_r: 16,
            target_modules: None,
            dropout: true,
            batch_size: 1,
            accumulation: 1,
            eval_batch_size: 1,
            rollout: 0,
            max_seq_length: 512,
            longest_row: 512,
            packing: false,
            gradient_checkpointing: false,
            activation_offloading: false,
            optim: Optim::PagedAdamw32bit,
        }
    }

    #[test]
    fn every_part_is_in_the_total() {
        let e = estimate_memory(&shape(), &plan());
        assert_eq!(e.weights, 4 * 134_515_008, "four bytes a parameter");
        let adapter = 30 * 16 * (2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536));
        assert_eq!((e.adapter, e.optimizer, e.gradients), (4 * adapter, 8 * adapter, 8 * adapter));
        let parts = e.weights
            + e.adapter
            + e.optimizer
            + e.gradients
            + e.activations
            + e.logits
            + e.saving
            + e.runtime;
        assert_eq!(e.total, parts);
    }

    #[test]
    fn settings_move_the_estimate_the_way_they_move_the_engine() {
        let base = estimate_memory(&shape(), &plan());
        let with = |change: fn(&mut MemoryPlan)| {
            let mut plan = plan();
            change(&mut plan);
            estimate_memory(&shape(), &plan)
        };
        let bf16 = with(|p| p.bf16 = true);
        assert_eq!(2 * bf16.weights, base.weights, "bf16 halves the weights");
        assert_eq!(bf16.adapter, base.adapter, "the adapter stays in f32");
        let nf4 = with(|p| {
            p.quantised = Some(Quantisation { codes: QuantCodes::Nf4, nested: false, bf16: false });
        });
        let linear = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536);
        assert_eq!(
            base.weights - nf4.weights,
            4 * linear - linear / 16 * 9,
            "4.5 bits of each linear weight"
        );
        assert_eq!(nf4.activations, base.activations, "activations are not quantised");
        let checkpointed = with(|p| p.gradient_checkpointing = true);
        assert!(checkpointed.activations * 5 < base.activations, "checkpointing keeps one layer of thirty");
        let batch = with(|p| p.batch_size = 4);
        assert!(batch.activations > 3 * base.activations, "activations grow with the batch");
        let long = with(|p| (p.max_seq_length, p.longest_row) = (1024, 1024));
        assert!(long.activations > 2 * base.activations, "attention scores grow with the square of the row");
        let packed = with(|p| (p.packing, p.longest_row) = (true, 64));
        assert!(packed.activations < base.activations, "packed rows meet fewer keys");
        let targeted = with(|p| p.target_modules = Some(vec!["q_proj".into(), "v_proj".into()]));
        assert!(targeted.adapter < base.adapter && targeted.activations < base.activations);
        assert_eq!(with(|p| p.optim = Optim::Sgd).optimizer, 0, "SGD remembers nothing");
        assert!(with(|p| p.optim = Optim::Adamw8bit).optimizer * 3 < base.optimizer);
        let fused = with(|p| p.fused = true);
        assert!(
            fused.activations * 3 < base.activations,
            "the fused kernels keep no scores and no sums of adapters"
        );
        assert_eq!(fused.weights + fused.optimizer, base.weights + base.optimizer, "all else is the same");
        let saved = with(|p| (p.lora_r, p.max_seq_length, p.longest_row) = (256, 8, 8));
        assert_eq!(saved.saving, saved.adapter + saved.optimizer, "a checkpoint is written from a copy");
    }

    #[test]
    fn short_micro_batches_are_computed_together() {
        let activations = |rows, accumulation, length| {
            let plan = MemoryPlan {
                batch_size: rows,
                accumulation,
                max_seq_length: length,
                longest_row: length,
                fused: true,
                ..plan()
            };
            estimate_memory(&shape(), &plan).activations
        };
        assert_eq!(activations(1, 4, 100), 4 * activations(1, 1, 100), "all of a step");
        assert_eq!(activations(1, 9, 100), activations(5, 1, 100), "up to 512 tokens");
        assert_eq!(activations(1, 9, 300), activations(1, 1, 300), "long ones by themselves");
    }

    #[test]
    fn chat_needs_room_for_its_cache() {
        let short = estimate_chat_memory(&shape(), true, None, None, 256);
        let long = estimate_chat_memory(&shape(), true, None, None, 4096);
        assert_eq!(short.kv_cache, 30 * 512 * 2 * 192 * 2, "half as many tokens again, in steps of 256");
        assert_eq!(long.kv_cache, 12 * short.kv_cache);
        assert!(estimate_chat_memory(&shape(), true, None, Some(16), 256).total > short.total);
        assert_eq!(
            long,
            estimate_chat_memory(&ModelShape { context_length: 4096, ..shape() }, true, None, None, u64::MAX)
        );
    }

    #[test]
    fn the_largest_settings_do_not_overflow() {
        let side = 1 << 20;
        let shape = ModelShape {
            hidden_size: side,
            layers: 1000,
            heads: side / 2,
            kv_heads: side / 2,
            head_dim: 2,
            intermediate_size: side,
            vocab_size: side,
            tied_embeddings: false,
            context_length: 1 << 24,
            ..ModelShape::default()
        };
        let most = u64::from(u32::MAX);
        let plan = MemoryPlan {
            lora_r: 256,
            batch_size: most,
            accumulation: most,
            eval_batch_size: most,
            rollout: most,
            max_seq_length: 1 << 24,
            longest_row: 1 << 24,
            ..plan()
        };
        assert_eq!(Fit::of(estimate_memory(&shape, &plan).total, 1 << 50), Fit::TooLarge);
        assert_eq!(
            Fit::of(estimate_chat_memory(&shape, false, None, Some(4096), u64::MAX).total, 1 << 40),
            Fit::TooLarge
        );
    }

    #[test]
    fn a_fit_leaves_room_for_the_error_of_the_estimate() {
        for (needed, want) in
            [(800, Fit::Fits), (833, Fit::Fits), (900, Fit::Tight), (1000, Fit::Tight), (1001, Fit::TooLarge)]
        {
            assert_eq!(Fit::of(needed * 1_000_000, 1_000_000_000), want, "{needed} of 1000 MB");
        }
        assert_eq!(Fit::of(u64::MAX, u64::MAX), Fit::Fits, "no overflow");
        assert_eq!(Fit::of(1, 0), Fit::TooLarge, "nothing is free");
    }
}
