//! The settings nearest to those of a run that is too large for this machine, with which it fits.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use types::{Optim, Strategy, TrainingConfig};

use crate::{Fit, FreeMemory, MemoryPlan, ModelShape, estimate_memory};

/// Rows are not cut below so many tokens.
const SHORTEST: u32 = 64;
/// Adapters are not made smaller than of this rank.
const LOWEST_RANK: u32 = 4;

/// Settings to change so that a run fits.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Nearest {
    /// Each setting to change with its value.
    pub changes: Map<String, Value>,
    /// What the run then needs, in bytes.
    pub memory_bytes: u64,
    /// Whether that fits with room to spare.
    pub fit: Fit,
}

/// Makes a run one notch smaller; `None` where this cannot be made smaller. The second number is the longest row in tokens.
type Notch = fn(&TrainingConfig, u64) -> Option<TrainingConfig>;

/// What is given up, the cheapest first: time, then accuracy of the base's weights, then what is learnt from.
const NOTCHES: &[Notch] =
    &[smaller_batch, checkpointing, single_eval_rows, small_optimizer, bf16, four_bits, shorter, lower_rank];

fn smaller_batch(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    let (rows, times) = (config.per_device_train_batch_size, config.gradient_accumulation_steps);
    // A rollout is as large as other settings say.
    if rows < 2 || config.strategy == Strategy::Rlhf {
        return None;
    }
    let less = if rows.is_multiple_of(2) { rows / 2 } else { 1 };
    Some(TrainingConfig {
        per_device_train_batch_size: less,
        gradient_accumulation_steps: times.checked_mul(rows / less)?,
        ..config.clone()
    })
}

fn checkpointing(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    (!config.gradient_checkpointing)
        .then(|| TrainingConfig { gradient_checkpointing: true, ..config.clone() })
}

fn single_eval_rows(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    (config.per_device_eval_batch_size > 1)
        .then(|| TrainingConfig { per_device_eval_batch_size: 1, ..config.clone() })
}

fn small_optimizer(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    let large = matches!(config.optim, Optim::AdamwTorch | Optim::PagedAdamw32bit);
    large.then(|| TrainingConfig { optim: Optim::Adamw8bit, ..config.clone() })
}

fn bf16(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    (!config.bf16 && !config.fp16).then(|| TrainingConfig { bf16: true, ..config.clone() })
}

fn four_bits(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    (!config.use_4bit).then(|| TrainingConfig { use_4bit: true, use_8bit: false, ..config.clone() })
}

fn shorter(config: &TrainingConfig, longest: u64) -> Option<TrainingConfig> {
    let now = u64::from(config.max_seq_length.unwrap_or(u32::MAX)).min(longest);
    let half = u32::try_from(now / 2).ok().filter(|&half| half >= SHORTEST)?;
    Some(TrainingConfig { max_seq_length: Some(half), ..config.clone() })
}

fn lower_rank(config: &TrainingConfig, _: u64) -> Option<TrainingConfig> {
    let rank = config.lora_r / 2;
    // The scale of the adapter stays.
    let lora_alpha = (config.lora_alpha / 2).max(1);
    (rank >= LOWEST_RANK).then(|| TrainingConfig { lora_r: rank, lora_alpha, ..config.clone() })
}

/// Gives what was given up back, each by itself.
const TAKEN_BACK: [fn(&TrainingConfig, &mut TrainingConfig); 6] = [
    |from, to| {
        to.per_device_train_batch_size = from.per_device_train_batch_size;
        to.gradient_accumulation_steps = from.gradient_accumulation_steps;
    },
    |from, to| to.gradient_checkpointing = from.gradient_checkpointing,
    |from, to| to.per_device_eval_batch_size = from.per_device_eval_batch_size,
    |from, to| to.optim = from.optim,
    |from, to| to.bf16 = from.bf16,
    |from, to| (to.use_4bit, to.use_8bit) = (from.use_4bit, from.use_8bit),
];

/// The nearest settings with which a run fits into the memory that is `free` where it is computed; `None` where none do. `longest_row` is as for [`MemoryPlan::new`].
pub fn nearest(
    config: &TrainingConfig,
    shape: &ModelShape,
    longest_row: Option<u64>,
    free: FreeMemory,
) -> Option<Nearest> {
    let need = |config: &TrainingConfig| {
        let plan = MemoryPlan::new(config, shape, longest_row).placed(free);
        (estimate_memory(shape, &plan).total, plan.longest_row, free.of(&plan))
    };
    let (_, longest, free) = need(config);
    let fits = |config: &TrainingConfig, wanted: &[Fit]| wanted.contains(&Fit::of(need(config).0, free));
    // With room to spare, or else at all.
    [&[Fit::Fits][..], &[Fit::Fits, Fit::Tight]].into_iter().find_map(|wanted| {
        let mut found = config.clone();
        for notch in NOTCHES {
            while !fits(&found, wanted) {
                match notch(&found, longest).filter(|less| need(less) < need(&found)) {
                    Some(less) => found = less,
                    None => break,
                }
            }
        }
        if !fits(&found, wanted) {
            return None;
        }
        // What a later change has made needless is taken back.
        for keep in TAKEN_BACK {
            let mut larger = found.clone();
            keep(config, &mut larger);
            if fits(&larger, wanted) {
                found = larger;
            }
        }
        let (memory_bytes, ..) = need(&found);
        Some(Nearest { changes: changes(config, &found)?, memory_bytes, fit: Fit::of(memory_bytes, free) })
    })
}

/// The settings that differ, with their new values.
fn changes(from: &TrainingConfig, to: &TrainingConfig) -> Option<Map<String, Value>> {
    let (from, to) = (serde_json::to_value(from).ok()?, serde_json::to_value(to).ok()?);
    let changed = to.as_object()?.iter().filter(|(name, value)| from.get(name) != Some(value));
    Some(changed.map(|(name, value)| (name.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape() -> ModelShape {
        let config = json!({
            "hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16, "intermediate_size": 4096,
            "vocab_size": 32000, "max_position_embeddings": 4096,
        });
        ModelShape::from_config(&config).unwrap()
    }

    fn config(changes: Value) -> TrainingConfig {
        let mut request =
            json!({"task": "text-generation", "model_name": "m", "dataset": "d", "max_seq_length": 1024});
        request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        TrainingConfig::from_json(request.as_object().unwrap()).unwrap()
    }

    fn processor(machine: u64) -> FreeMemory {
        FreeMemory { machine, card: None }
    }

    fn need(config: &TrainingConfig) -> u64 {
        estimate_memory(&shape(), &MemoryPlan::new(config, &shape(), None)).total
    }

    fn applied(config: &TrainingConfig, changes: &Map<String, Value>) -> TrainingConfig {
        let mut request = serde_json::to_value(config).unwrap();
        let request = request.as_object_mut().unwrap();
        request.retain(|name, value| {
            let only = TrainingConfig::field(name).unwrap().only;
            !value.is_null() && (only.is_empty() || only.contains(&config.strategy))
        });
        request.extend(changes.clone());
        TrainingConfig::from_json(request).unwrap()
    }

    #[test]
    fn what_is_found_is_allowed_and_fits_and_no_change_is_needless() {
        let large = json!({
            "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "gradient_checkpointing": false,
            "per_device_eval_batch_size": 4, "lora_r": 32, "lora_alpha": 64,
        });
        let config = config(large);
        let most = need(&config);
        let mut most_changes = 0;
        for percent in [95, 80, 60, 40, 25, 15, 10] {
            let free = most / 100 * percent;
            let Some(found) = nearest(&config, &shape(), None, processor(free)) else {
                assert!(percent <= 10, "at {percent} % something fits");
                continue;
            };
            let less = applied(&config, &found.changes);
            assert_eq!(need(&less), found.memory_bytes, "{percent} %: {:?}", found.changes);
            assert_eq!(Fit::of(found.memory_bytes, free), found.fit);
            assert_ne!(found.fit, Fit::TooLarge);
            most_changes = found.changes.len().max(most_changes);
            let rows = |c: &TrainingConfig| c.per_device_train_batch_size * c.gradient_accumulation_steps;
            assert_eq!(rows(&less), rows(&config), "the rows of an optimizer step stay");
        }
        assert!(most_changes > 2, "the smallest took several changes");
        assert_eq!(
            nearest(&config, &shape(), None, processor(most / 1000)),
            None,
            "nothing makes it as small as that"
        );
    }

    #[test]
    fn time_is_given_up_before_anything_else() {
        let config = config(json!({"per_device_train_batch_size": 8, "gradient_checkpointing": false}));
        let found = nearest(&config, &shape(), None, processor(need(&config))).unwrap();
        assert_eq!(
            Value::Object(found.changes),
            json!({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8}),
            "half a batch and twice as many make the fit a good one"
        );
    }

    #[test]
    fn a_run_on_a_card_is_made_to_fit_there() {
        let config = config(json!({"gradient_checkpointing": false}));
        let large = FreeMemory { machine: 0, card: Some(1 << 34) };
        let plan = MemoryPlan::new(&config, &shape(), None).placed(large);
        let most = estimate_memory(&shape(), &plan).total;
        let less = FreeMemory { machine: u64::MAX, card: Some(most / 2) };
        let found = nearest(&config, &shape(), None, less).unwrap();
        assert!(found.memory_bytes <= most / 2 && !found.changes.is_empty(), "{found:?}");
    }
}
