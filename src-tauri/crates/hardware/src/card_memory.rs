//! How much of a card's memory a run needs at its peak: the terms of [`memory`](crate::memory), as the engine for cards has them.

use crate::{
    MemoryEstimate, MemoryPlan, ModelShape,
    memory::{Batch, base_weights, kv_cache, optimizer_state},
    plan::F32,
};

/// What a process takes of a card before the first tensor: CUDA's context, the kernels' code and the workspaces of cuBLAS.
pub(crate) const CONTEXT: u64 = 500_000_000;
/// Elements of the logits that exist at a time, and rows they are computed for at least.
const LOGITS: u64 = 1 << 25;
const LOGIT_ROWS: u64 = 64;
/// Values of the residual stream that exist beside those that are kept: while a layer goes back, and at the loss.
const STREAMS: u64 = 5;
const STREAMS_AT_LOSS: u64 = 3;
/// Inputs of layers that are on the card where the others wait in the machine's memory: of the layer that is computed, and one that comes
/// or goes meanwhile.
const INPUTS: u64 = 2;

/// The peak of a training run on a card. With `w` the bytes of a value that is multiplied, and the rest as for
/// [`estimate_memory`](crate::estimate_memory):
///
/// ```text
/// weights      as on the processor; of a quantised base with an output projection of its own, the embeddings stay in the machine's memory
/// adapter      4 · P; gradients as much, and those of one layer; the state as on the processor
/// activations  with checkpointing: L · T H 4 (2 · T H 4 where they are offloaded) + one layer + its backward pass;
///              without: L · one layer + its backward pass
/// logits       (4 + d) · V · (rows computed at a time) + 12 · T H
/// ```
///
/// The loss is over before the first layer goes back, so of both working sets the larger counts: what a layer takes beyond the loss is in
/// the activations. A weight of few bits is widened as a whole for its product. Checkpoints are copied in the machine's memory.
pub(crate) fn estimate(shape: &ModelShape, plan: &MemoryPlan) -> MemoryEstimate {
    let batch = Batch::training(plan);
    let (layers, tokens) = (shape.layers, batch.tokens);
    let trainable = F32.saturating_mul(plan.adapter_parameters(shape));
    let optimizer = optimizer_state(shape, plan);
    let input = F32 * shape.hidden_size;
    let saved = saved(shape, plan);
    let widened = widened(shape, plan);
    let backward = tokens.saturating_mul(backward(shape, plan)).saturating_add(widened);
    let inputs = if plan.activation_offloading { layers.min(INPUTS) } else { layers };
    let (kept, layer) = match plan.gradient_checkpointing {
        true => (
            inputs.saturating_mul(tokens.saturating_mul(input)),
            tokens.saturating_mul(saved).saturating_add(backward),
        ),
        false => (layers.saturating_mul(tokens.saturating_mul(input + saved)), backward),
    };
    let logits = loss(shape, plan, tokens);
    let training = kept.saturating_add(layer.saturating_sub(logits));
    let evaluation = match Batch::evaluation(plan) {
        Some(batch) => batch.tokens.saturating_mul(forward(shape, plan)).saturating_add(widened),
        None => 0,
    };
    MemoryEstimate {
        weights: weights(shape, plan),
        adapter: trainable,
        gradients: trainable.saturating_add(trainable / layers.max(1)),
        optimizer,
        activations: training.max(evaluation),
        logits,
        kv_cache: plan.rollout.saturating_mul(kv_cache(shape, plan, plan.longest_row)),
        saving: 0,
        runtime: CONTEXT,
        total: 0,
    }
    .sum()
}

fn weights(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let all = base_weights(shape, plan.bf16, plan.quantised);
    match plan.quantised {
        Some(_) if !shape.tied_embeddings => {
            all.saturating_sub(shape.vocab_size * shape.hidden_size * plan.width())
        }
        _ => all,
    }
}

/// The largest weight in the precision that it is multiplied in, where it is kept in fewer bits.
fn widened(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let largest = shape.linears().iter().map(|linear| linear.inputs * linear.outputs).max().unwrap_or(0);
    if plan.quantised.is_some() { plan.kept_width() * largest } else { 0 }
}

/// Bytes that a layer keeps of a token for its backward pass, beside its input: queries, keys and values, mixed values, the sum after
/// attention, gate and up; the logarithms of sums; and what every adapter makes of its input.
fn saved(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let (queries, keys) = (shape.query_width(), shape.key_width());
    let adapters = shape.linears().iter().filter(|linear| plan.adapts(linear)).count() as u64;
    let values = shape.hidden_size + 2 * (queries + keys + shape.intermediate_size);
    plan.kept_width() * (values + plan.lora_r * adapters) + F32 * shape.heads
}

/// The largest set of temporary values of a token in a layer's backward pass: of the feed-forward part, the gated product and its
/// gradient; or of attention, after gate, up and the sum after attention are gone, the gradients of all that it keeps, of heads in f32, and
/// of keys and values for each query head where tensor cores compute them.
fn backward(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let (width, hidden, middle) = (plan.kept_width(), shape.hidden_size, shape.intermediate_size);
    let (queries, keys) = (shape.query_width(), shape.key_width());
    let masked = if plan.dropout { width + F32 } else { 0 };
    let streams = (STREAMS * F32 + width) * hidden;
    let feed_forward = middle * (2 * width + masked);
    let by_head = if plan.bf16_products() { 2 * F32 * queries } else { 0 };
    let masked = if plan.dropout { (3 * F32 + width) * hidden } else { 0 };
    let attention = width * (2 * (queries + keys) + keys + queries + hidden)
        + F32 * (queries + keys + hidden)
        + by_head
        + masked;
    let gone = width * (2 * middle + hidden);
    streams + feed_forward.max(attention.saturating_sub(gone))
}

/// The values of a token in a layer that is computed without a backward pass to come.
fn forward(shape: &ModelShape, plan: &MemoryPlan) -> u64 {
    let (queries, keys) = (shape.query_width(), shape.key_width());
    let values = 2 * (queries + keys) + shape.hidden_size + 3 * shape.intermediate_size;
    STREAMS_AT_LOSS * F32 * shape.hidden_size + plan.kept_width() * values
}

fn loss(shape: &ModelShape, plan: &MemoryPlan, tokens: u64) -> u64 {
    let rows = (LOGITS / shape.vocab_size.max(1)).max(LOGIT_ROWS).min(tokens);
    let row = (F32 + plan.width()) * (shape.vocab_size + shape.hidden_size);
    let streams = tokens.saturating_mul(STREAMS_AT_LOSS * F32 * shape.hidden_size);
    rows.saturating_mul(row).saturating_add(streams)
}

#[cfg(test)]
mod tests {
    use types::{
        Optim,
        config::{QuantCodes, Quantisation},
    };

    use super::*;
    use crate::FreeMemory;

    fn llama(hidden_size: u64, layers: u64, head_dim: u64, intermediate_size: u64) -> ModelShape {
        ModelShape {
            hidden_size,
            layers,
            heads: 32,
            kv_heads: 8,
            head_dim,
            intermediate_size,
            vocab_size: 128_256,
            tied_embeddings: hidden_size == 2048,
            context_length: 131_072,
            ..ModelShape::default()
        }
    }

    fn plan(gradient_checkpointing: bool, nf4: bool) -> MemoryPlan {
        MemoryPlan {
            card: true,
            fused: true,
            bf16: true,
            quantised: nf4.then_some(Quantisation { codes: QuantCodes::Nf4, nested: true, bf16: true }),
            lora_r: 16,
            target_modules: None,
            dropout: false,
            batch_size: 1,
            accumulation: 1,
            eval_batch_size: 0,
            rollout: 0,
            max_seq_length: 2048,
            longest_row: 2048,
            packing: true,
            gradient_checkpointing,
            activation_offloading: false,
            optim: Optim::PagedAdamw32bit,
        }
    }

    /// Peaks that an H200's driver told of the memory handed out to `train`'s bench `card`, which is all but the context.
    #[test]
    fn estimates_are_within_a_tenth_of_measured_peaks() {
        let (small, large) = (llama(2048, 16, 64, 8192), llama(4096, 32, 128, 14336));
        for (name, shape, plan, gigabytes) in [
            ("1B", &small, plan(false, false), 4.73),
            ("1B, checkpointing", &small, plan(true, false), 3.23),
            ("8B", &large, plan(false, false), 23.78),
            ("8B, checkpointing", &large, plan(true, false), 18.39),
            ("8B in NF4, checkpointing", &large, plan(true, true), 7.10),
        ] {
            let estimate = crate::estimate_memory(shape, &plan);
            let estimated = (estimate.total - estimate.runtime) as f64 / 1e9;
            let off = estimated / gigabytes - 1.0;
            assert!(off.abs() < 0.1, "{name}: {estimated:.2} GB estimated, {gigabytes} GB measured");
        }
    }

    #[test]
    fn what_stays_in_the_machines_memory_is_not_counted() {
        let shape = llama(4096, 32, 128, 14336);
        let of = |plan: &MemoryPlan| crate::estimate_memory(&shape, plan);
        let on_card = of(&plan(true, true));
        let on_processor = of(&MemoryPlan { card: false, ..plan(true, true) });
        assert_eq!(on_processor.weights - on_card.weights, 2 * 128_256 * 4096, "the embeddings");
        assert_eq!((on_card.saving, on_processor.saving > 0), (0, true), "the copy for a checkpoint");
        let offloaded = of(&MemoryPlan { activation_offloading: true, ..plan(true, true) });
        assert_eq!(on_card.activations - offloaded.activations, 30 * 2048 * 4096 * 4, "inputs of layers");
        let kept = MemoryPlan { activation_offloading: true, ..plan(false, true) };
        assert_eq!(of(&kept), of(&plan(false, true)), "without checkpointing nothing is sent away");
        let state = |optim| of(&MemoryPlan { optim, ..plan(true, true) }).optimizer;
        assert_eq!(state(Optim::AdamwTorch), 2 * on_card.adapter);
        assert!(3 * state(Optim::Adamw8bit) < state(Optim::AdamwTorch));
    }

    #[test]
    fn attention_takes_memory_by_the_token() {
        let total = |tokens| {
            let plan = MemoryPlan { max_seq_length: tokens, longest_row: tokens, ..plan(false, false) };
            crate::estimate_memory(&llama(2048, 16, 64, 8192), &plan).total
        };
        let [once, twice, thrice] = [1, 2, 3].map(|times| total(times * 32_768));
        assert_eq!(
            thrice - twice,
            twice - once,
            "the longest rows take no more by the token than shorter ones"
        );
    }

    #[test]
    fn what_has_no_kernels_of_ours_is_computed_in_f32_there() {
        let free = FreeMemory { machine: 1, card: Some(2) };
        let plan = plan(false, false);
        let placed = |fused| MemoryPlan { card: false, fused, ..plan.clone() }.placed(free);
        assert_eq!((free.of(&placed(true)), free.of(&placed(false))), (2, 2));
        let none = FreeMemory { machine: 3, card: None };
        assert_eq!(none.of(&plan.clone().placed(none)), 3, "without a card nothing is");
        let shape = llama(2048, 16, 64, 8192);
        let [own, composed] = [true, false].map(|fused| crate::estimate_memory(&shape, &placed(fused)));
        assert_eq!((own.weights, own.runtime), (composed.weights, composed.runtime));
        assert!(composed.activations > own.activations, "more is kept, and in more bits");
    }
}
