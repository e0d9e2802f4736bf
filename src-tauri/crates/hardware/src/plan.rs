//! What of a run's settings decides the memory and the time it takes.

use types::{Optim, Profile, Provider, Strategy, TrainingConfig, config::Quantisation};

use crate::{ModelShape, shape::Linear};

/// Bytes of an f32.
pub(crate) const F32: u64 = 4;

/// Memory in bytes that a run could take now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreeMemory {
    /// Of the machine.
    pub machine: u64,
    /// Of the card that runs are computed on; none where the processor computes them all.
    pub card: Option<u64>,
}

impl FreeMemory {
    /// Where a run is computed.
    pub fn of(self, plan: &MemoryPlan) -> u64 {
        self.card.filter(|_| plan.card).unwrap_or(self.machine)
    }
}

/// The part of a run's settings that memory and time depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Whether a card computes it.
    pub card: bool,
    /// Whether the fused kernels compute it.
    pub fused: bool,
    /// Base weights and activations in bf16.
    pub bf16: bool,
    /// How the linear layers of the base are quantised, if they are.
    pub quantised: Option<Quantisation>,
    /// Rank of the adapter.
    pub lora_r: u64,
    /// Names of the linear layers that get an adapter; `None` for all.
    pub target_modules: Option<Vec<String>>,
    /// Whether the adapter's input goes through dropout.
    pub dropout: bool,
    /// Sequences of a micro-batch; with packing, bins of `max_seq_length` tokens.
    pub batch_size: u64,
    /// Micro-batches of an optimizer step.
    pub accumulation: u64,
    /// Sequences of a batch of evaluation; 0 without evaluation.
    pub eval_batch_size: u64,
    /// Answers that are written at the same time; 0 where none are learned from.
    pub rollout: u64,
    /// Tokens of the longest row; with packing, tokens of a bin.
    pub max_seq_length: u64,
    /// Tokens of the longest row.
    pub longest_row: u64,
    /// Fills bins with several rows that do not see each other.
    pub packing: bool,
    /// Keeps the input of each layer only, and computes the layer once more in the backward pass.
    pub gradient_checkpointing: bool,
    /// Keeps these inputs in the machine's memory, where a card computes.
    pub activation_offloading: bool,
    /// The optimizer.
    pub optim: Optim,
}

impl MemoryPlan {
    /// The plan of a run. `longest_row` is in tokens, where the dataset has been looked at; without it every row is taken
    /// to be as long as the settings, the profile and the model allow.
    pub fn new(config: &TrainingConfig, shape: &ModelShape, longest_row: Option<u64>) -> Self {
        let cap = config.max_seq_length.or(config.compute_specs.map(length_cap)).map_or(u64::MAX, u64::from);
        let limit = cap.min(shape.context_length);
        let longest_row = longest_row.unwrap_or(limit).clamp(1, limit.max(1));
        // A row of two answers is two sequences.
        let answers = if config.strategy == Strategy::Dpo { 2 } else { 1 };
        let rewarded = config.strategy == Strategy::Rlhf;
        // Prompts are no longer than rows, and answers come on top.
        let longest_row = match rewarded {
            true => longest_row.saturating_add(config.response_length.into()).min(shape.context_length),
            false => longest_row,
        };
        // The answers of a rollout are gone through a few at a time, as short micro-batches are.
        let rollout = u64::from(config.rollout_batch_size) * u64::from(config.num_generations);
        // Bins are as long as the setting says; where it is left to be found, that is the longest row.
        let fill = config.packing && config.max_seq_length.is_some();
        Self {
            // Where it is computed is told later.
            card: false,
            // Where none is named, the fused kernels are taken as far as they go.
            fused: config.provider != Some(Provider::Huggingface) && !shape.reference_only,
            bf16: config.bf16 || config.fp16,
            quantised: config.quantisation(),
            lora_r: config.lora_r.into(),
            target_modules: config.target_modules.clone(),
            dropout: config.lora_dropout > 0.0,
            batch_size: u64::from(config.per_device_train_batch_size) * answers,
            accumulation: if rewarded { rollout } else { config.gradient_accumulation_steps.into() },
            eval_batch_size: if config.eval_split > 0.0 || config.eval_dataset.is_some() {
                u64::from(config.per_device_eval_batch_size) * answers
            } else {
                0
            },
            rollout: if rewarded { config.rollout_batch_size.max(ROLLOUT).into() } else { 0 },
            max_seq_length: if fill { limit } else { longest_row },
            longest_row,
            packing: config.packing,
            gradient_checkpointing: config.gradient_checkpointing,
            activation_offloading: config.activation_offloading,
            optim: config.optim,
        }
    }

    /// The same run, computed on the card where there is one that runs are computed on.
    pub fn placed(self, free: FreeMemory) -> Self {
        Self { card: free.card.is_some(), ..self }
    }

    /// A batch has no more rows than the dataset.
    pub fn limit_rows(&mut self, config: &TrainingConfig, rows: u64) {
        let answers = if config.strategy == Strategy::Dpo { 2 } else { 1 };
        self.batch_size = self.batch_size.min(rows.saturating_mul(answers)).max(1);
    }

    /// Whether products with weights of linear layers are of bf16, and the fused kernels keep values so.
    pub(crate) fn bf16_products(&self) -> bool {
        self.quantised.map_or(self.bf16, |quantised| quantised.bf16)
    }

    /// Whether a linear layer gets an adapter.
    pub(crate) fn adapts(&self, linear: &Linear) -> bool {
        self.target_modules.as_ref().is_none_or(|names| names.iter().any(|name| name == linear.name))
    }

    /// Parameters of the adapter: `Σ r · (in + out)` over the adapted layers, and those of a head that is trained as a whole.
    pub fn adapter_parameters(&self, shape: &ModelShape) -> u64 {
        let of = |stack: &ModelShape| {
            let adapted = stack.linears().into_iter().filter(|linear| self.adapts(linear));
            let widths = adapted.map(|linear| linear.inputs + linear.outputs).sum();
            stack.layers.saturating_mul(self.lora_r).saturating_mul(widths)
        };
        shape.stacks().iter().map(of).fold(shape.trained_head(), u64::saturating_add)
    }
}

/// As many prompts as are answered together at least.
const ROLLOUT: u32 = 8;

/// The longest sequence that a machine of each class is given when the settings leave it open.
fn length_cap(profile: Profile) -> u32 {
    crate::Settings::for_profile(profile, false).max_seq_length
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shape() -> ModelShape {
        let config = json!({
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
            "vocab_size": 1000, "max_position_embeddings": 4096,
        });
        ModelShape::from_config(&config).unwrap()
    }

    fn plan(changes: Value, longest_row: Option<u64>) -> MemoryPlan {
        let mut request = json!({"task": "text-generation", "model_name": "m", "dataset": "d"});
        request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
        MemoryPlan::new(&config, &shape(), longest_row)
    }

    #[test]
    fn rows_are_as_long_as_everything_allows() {
        for (changes, row, want) in [
            (json!({}), None, (4096, 4096)),
            (json!({"compute_specs": "low_end"}), None, (512, 512)),
            (json!({"compute_specs": "low_end", "max_seq_length": 1024}), None, (1024, 1024)),
            (json!({"max_seq_length": 9000}), None, (4096, 4096)),
            (json!({"max_seq_length": 1024}), Some(100), (100, 100)),
            (json!({"max_seq_length": 1024}), Some(5000), (1024, 1024)),
            (json!({"max_seq_length": 1024, "packing": true}), Some(100), (1024, 100)),
            (json!({"packing": true}), Some(100), (100, 100)),
            (json!({}), Some(0), (1, 1)),
        ] {
            let plan = plan(changes.clone(), row);
            let got = (plan.max_seq_length, plan.longest_row);
            assert_eq!(got, want, "tokens of a sequence and of a row, {changes}, longest row {row:?}");
        }
    }

    #[test]
    fn two_answers_are_two_sequences() {
        let sizes = |changes: Value| {
            let plan = plan(changes, Some(100));
            (plan.batch_size, plan.eval_batch_size, plan.longest_row)
        };
        let batch = json!({"per_device_train_batch_size": 3});
        let mut pairs = batch.clone();
        pairs["strategy"] = json!("dpo");
        assert_eq!((sizes(batch), sizes(pairs)), ((3, 1, 100), (6, 2, 100)));
    }

    #[test]
    fn sixteen_bits_take_the_same_room_either_way() {
        let of = |settings| plan(settings, None);
        assert_eq!(of(json!({"fp16": true})), of(json!({"bf16": true})), "a GPU computes in fp16 too");
    }

    #[test]
    fn named_modules_alone_are_adapted() {
        let all = plan(json!({"lora_r": 8}), None).adapter_parameters(&shape());
        assert_eq!(all, 2 * 8 * (4 * 128 + 3 * 192), "every linear layer");
        let some = plan(json!({"lora_r": 8, "target_modules": ["q_proj", "down_proj"]}), None);
        assert_eq!(some.adapter_parameters(&shape()), 2 * 8 * (128 + 192));
    }
}
