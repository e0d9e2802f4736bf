//! How long a run takes, from the operations it computes and a short measurement of the machine.
//!
//! The measurement is the engine's (`modelforge engine calibrate`); nothing here computes on tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::engine::Calibration;

use crate::{MemoryPlan, ModelShape, memory::layer_bytes};

/// The tokens and steps of a run, all epochs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// Tokens computed in training.
    pub tokens: u64,
    /// Of those, tokens that the loss counts.
    pub trained_tokens: u64,
    /// Tokens computed in evaluation, all evaluations together.
    pub eval_tokens: u64,
    /// Of those, tokens that the loss counts.
    pub eval_trained_tokens: u64,
    /// Tokens that are generated to show what the model answers, at most.
    pub generated_tokens: u64,
    /// Optimizer steps.
    pub steps: u64,
}

/// How long a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct TimeEstimate {
    /// The whole run in seconds, without reading the dataset and loading the model.
    pub seconds: f64,
    /// One optimizer step in seconds.
    pub seconds_per_step: f64,
    /// Tokens trained on in a second.
    pub tokens_per_second: f64,
    /// Floating-point operations of the whole run, a multiplication and an addition as two.
    pub flops: f64,
}

/// Operations by what limits their speed, for one token or for a whole run.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Products with a base weight, in the weight's dtype.
    base: f64,
    /// Products in f32: adapter and attention.
    f32: f64,
    /// Bytes read and written besides products.
    bytes: f64,
}

impl Cost {
    fn plus(self, other: Cost, times: f64) -> Cost {
        Cost {
            base: self.base + other.base * times,
            f32: self.f32 + other.f32 * times,
            bytes: self.bytes + other.bytes * times,
        }
    }
}

/// The part of the calibrated speed that a run's products reach: many are narrower than the calibrated one. Fitted to
/// measured runs, as the next are.
const EFFICIENCY: f64 = 0.8;
/// The same of the fused kernels, which also pack their operands.
const FUSED_EFFICIENCY: f64 = 0.5;

/// Copies of a layer's values whose time the operations between the products take, forward and backward. They are more
/// than the reads and writes of these values, because part of the operations runs on one thread, and every new tensor
/// is memory that the system hands out page by page.
const FORWARD_COPIES: f64 = 8.0;
const BACKWARD_COPIES: f64 = 16.0;

/// Bytes an optimizer step moves for each parameter of the adapter: weight, gradient and state, read, copied and written.
const UPDATE_BYTES: f64 = 64.0;

/// The time of a run. `calibration` is what the engine measured on the machine that trains.
///
/// Of a token, with `N` the elements of the base's linear layers, `P` the adapter's parameters, `L` the layers, `Q` the
/// width of all queries, `s` the longest row:
///
/// ```text
/// forward     2 N + 2 P + 4 L Q s       (of attention, fused kernels compute the half that is not masked)
/// backward    2 N + 4 P + 8 L Q s       (no gradient of a frozen weight)
/// recompute   the forward pass again, with gradient checkpointing
/// loss        2 V H, and again for its gradient, for tokens that the loss counts
/// ```
///
/// A generated token takes as long as reading all weights.
///
/// To the time of the products comes that of the operations between them, which move the activations.
pub fn estimate_time(
    shape: &ModelShape,
    plan: &MemoryPlan,
    work: &Workload,
    calibration: &Calibration,
) -> TimeEstimate {
    let stacks = shape.stacks();
    let cost = |tokens: f64, trained: f64, forwards: f64, backwards: f64| {
        stacks.iter().fold(Cost::default(), |sum, stack| {
            // Of an encoder-decoder, sources go through one stack and targets, which are trained on, through the other.
            let tokens = match (stacks.len(), stack.attentions()) {
                (1, _) => tokens,
                (_, 1) => tokens - trained,
                _ => trained,
            };
            let (forward, backward) = per_token(stack, plan);
            sum.plus(forward, forwards * tokens).plus(backward, backwards * tokens)
        })
    };
    let head = Cost { base: 2.0 * (shape.vocab_size * shape.hidden_size) as f64, ..Cost::default() };

    let forwards = if plan.gradient_checkpointing { 2.0 } else { 1.0 };
    let (tokens, trained) = (work.tokens as f64, work.trained_tokens as f64);
    let update = Cost { bytes: UPDATE_BYTES * plan.adapter_parameters(shape) as f64, ..Cost::default() };
    let training =
        cost(tokens, trained, forwards, 1.0).plus(head, 2.0 * trained).plus(update, work.steps as f64);
    let eval_trained = work.eval_trained_tokens as f64;
    let evaluation = cost(work.eval_tokens as f64, eval_trained, 1.0, 0.0).plus(head, eval_trained);

    // One token at a time: each reads every weight once, which takes longer than computing with it.
    let width = if plan.bf16 { 2.0 } else { 4.0 };
    let linear = 2.0 * shape.layers as f64 * shape.layer_weights() as f64;
    let linear = match plan.quantised {
        Some(quantised) => quantised.bytes((linear / 2.0) as u64) as f64,
        None => width * linear / 2.0,
    };
    let generation = Cost { bytes: linear + width * head.base / 2.0, ..Cost::default() };
    let evaluation = evaluation.plus(generation, work.generated_tokens as f64);

    // Widening four bits as they are packed takes no longer than reading bf16 does. The reference widens bf16 before it multiplies.
    let base_rate = if plan.bf16_products() && plan.fused {
        calibration.matmul_bf16_flops
    } else {
        calibration.matmul_f32_flops
    };
    // On a card the calibrated product is as wide as those of a run, and adapters and attention are multiplied as the base is.
    let efficiency = match () {
        () if plan.card && plan.fused => 1.0,
        () if plan.fused => FUSED_EFFICIENCY,
        () => EFFICIENCY,
    };
    let f32_rate = if plan.card { base_rate } else { calibration.matmul_f32_flops };
    let seconds = |cost: Cost| {
        let time = |amount: f64, rate: f64| if amount > 0.0 { amount / rate.max(1.0) } else { 0.0 };
        time(cost.base, efficiency * base_rate)
            + time(cost.f32, efficiency * f32_rate)
            + time(cost.bytes, calibration.memory_bytes_per_second)
    };
    let training_seconds = seconds(training);
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    TimeEstimate {
        seconds: training_seconds + seconds(evaluation),
        seconds_per_step: ratio(training_seconds, work.steps as f64),
        tokens_per_second: ratio(tokens, training_seconds),
        flops: training.base + training.f32 + evaluation.base + evaluation.f32,
    }
}

/// Forward and backward pass of one token through a stack of layers.
fn per_token(stack: &ModelShape, plan: &MemoryPlan) -> (Cost, Cost) {
    let layers = stack.layers as f64;
    let linear = 2.0 * layers * stack.layer_weights() as f64;
    let adapter = 2.0 * plan.adapter_parameters(stack) as f64;
    let attentions = stack.attentions() as f64;
    let attention = 4.0 * layers * attentions * stack.query_width() as f64 * plan.longest_row as f64;
    let values = layers * layer_bytes(stack, plan) as f64;
    // The fused kernels compute the scores that are not masked, which are half of them.
    let attention = if plan.fused { attention / 2.0 } else { attention };
    let forward = Cost { base: linear, f32: adapter + attention, bytes: FORWARD_COPIES * values };
    let backward = Cost { base: linear, f32: 2.0 * (adapter + attention), bytes: BACKWARD_COPIES * values };
    (forward, backward)
}

#[cfg(test)]
mod tests {
    use types::Optim;

    use super::*;

    fn shape() -> ModelShape {
        ModelShape {
            hidden_size: 512,
            layers: 8,
            heads: 8,
            kv_heads: 4,
            head_dim: 64,
            intermediate_size: 1536,
            vocab_size: 32000,
            tied_embeddings: true,
            context_length: 2048,
            ..ModelShape::default()
        }
    }

    fn plan(bf16: bool, checkpointing: bool) -> MemoryPlan {
        MemoryPlan {
            card: false,
            fused: true,
            bf16,
            quantised: None,
            lora_r: 16,
            target_modules: None,
            dropout: true,
            batch_size: 1,
            accumulation: 1,
            eval_batch_size: 1,
            rollout: 0,
            max_seq_length: 256,
            longest_row: 256,
            packing: false,
            gradient_checkpointing: checkpointing,
            activation_offloading: false,
            optim: Optim::AdamwTorch,
        }
    }

    fn calibration() -> Calibration {
        Calibration {
            device: "cpu".into(),
            threads: 4,
            matmul_f32_flops: 1e11,
            matmul_bf16_flops: 5e10,
            memory_bytes_per_second: 2e10,
        }
    }

    fn seconds(bf16: bool, checkpointing: bool, work: Workload) -> TimeEstimate {
        estimate_time(&shape(), &plan(bf16, checkpointing), &work, &calibration())
    }

    #[test]
    fn time_follows_the_work() {
        let work = Workload { tokens: 10_000, trained_tokens: 5000, steps: 10, ..Workload::default() };
        let once = seconds(false, false, work);
        let twice = Workload { tokens: 20_000, trained_tokens: 10_000, steps: 20, ..work };
        let ratio = seconds(false, false, twice).seconds / once.seconds;
        assert!((ratio - 2.0).abs() < 1e-9, "twice the work takes twice the time, not {ratio}");
        assert!((once.seconds_per_step * 10.0 - once.seconds).abs() < 1e-9, "steps make up the run");
        assert!((once.tokens_per_second * once.seconds - 10_000.0).abs() < 1e-6);

        let again = seconds(false, true, work).seconds / once.seconds;
        assert!(
            (1.2..1.6).contains(&again),
            "checkpointing computes the forward pass twice: {again} times as long"
        );
        assert!(seconds(true, false, work).seconds > once.seconds, "bf16 takes longer where its products do");
        let evaluated =
            seconds(false, false, Workload { eval_tokens: 10_000, eval_trained_tokens: 5000, ..work });
        assert!(evaluated.seconds > once.seconds && evaluated.seconds < 2.0 * once.seconds);
        assert_eq!(evaluated.seconds_per_step, once.seconds_per_step, "evaluation is no part of a step");
    }

    #[test]
    fn a_card_multiplies_everything_as_the_base() {
        let work = Workload { tokens: 1000, trained_tokens: 1000, steps: 1, ..Workload::default() };
        let plan = MemoryPlan { card: true, ..plan(true, true) };
        let calibration = Calibration { memory_bytes_per_second: f64::INFINITY, ..calibration() };
        let estimate = estimate_time(&shape(), &plan, &work, &calibration);
        let products = estimate.flops / calibration.matmul_bf16_flops;
        assert!((estimate.seconds / products - 1.0).abs() < 1e-9, "{} and {products}", estimate.seconds);
    }

    #[test]
    fn operations_are_counted_as_documented() {
        let work = Workload { tokens: 1, ..Workload::default() };
        let layer = 512 * 512 * 2 + 512 * 256 * 2 + 3 * 512 * 1536;
        let adapter = 16 * (2 * 1024 + 2 * 768 + 3 * 2048);
        let attention = 512 * 256 / 2;
        let want = 8 * (4 * layer + 6 * adapter + 12 * attention);
        assert_eq!(seconds(false, false, work).flops, f64::from(want));
    }

    #[test]
    fn nothing_to_do_takes_no_time() {
        let none = seconds(true, true, Workload::default());
        assert_eq!((none.seconds, none.seconds_per_step, none.tokens_per_second), (0.0, 0.0, 0.0));
    }
}
