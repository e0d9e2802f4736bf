//! How much room a run takes on the disk.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{MemoryPlan, ModelShape, memory::optimizer_state, plan::F32};

/// The newest two, that of the best evaluation, and the one that is being written.
const CHECKPOINTS: u64 = 4;
/// Tokenizer, template, card and manifest of a model folder, the run's log, and what is set aside to tell of a full disk.
const FILES: u64 = 32 << 20;

/// The room that a run takes on the disk at its most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiskEstimate {
    /// Checkpoints that exist at a time: adapter and optimizer state.
    pub checkpoints: u64,
    /// Tokenized rows, and optimizer state that may leave memory.
    pub working: u64,
    /// The finished model's folder.
    pub model: u64,
    /// All of these together.
    pub total: u64,
}

/// The room for a run on a dataset of so many bytes. Tokenized, text takes about as much as before; twice that is reckoned with.
pub fn estimate_disk(shape: &ModelShape, plan: &MemoryPlan, dataset_bytes: u64) -> DiskEstimate {
    let adapter = F32.saturating_mul(plan.adapter_parameters(shape));
    let state = optimizer_state(shape, plan);
    let paged = if plan.optim == types::Optim::PagedAdamw32bit { state } else { 0 };
    let checkpoints = CHECKPOINTS.saturating_mul(adapter.saturating_add(state));
    let working = dataset_bytes.saturating_mul(2).saturating_add(paged);
    let model = adapter.saturating_add(FILES);
    DiskEstimate {
        checkpoints,
        working,
        model,
        total: checkpoints.saturating_add(working).saturating_add(model),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::TrainingConfig;

    use super::*;

    #[test]
    fn everything_a_run_writes_is_reckoned_with() {
        let config = json!({
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
            "vocab_size": 1000, "max_position_embeddings": 4096,
        });
        let shape = ModelShape::from_config(&config).unwrap();
        let of = |optim: &str| {
            let request = json!({"task": "text-generation", "model_name": "m", "dataset": "d", "optim": optim, "lora_r": 8});
            let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
            let plan = MemoryPlan::new(&config, &shape, None);
            (plan.adapter_parameters(&shape), estimate_disk(&shape, &plan, 1000))
        };
        let (parameters, plain) = of("adamw_torch");
        assert_eq!(plain.checkpoints, 4 * (4 + 8) * parameters, "weights and two means, in 32 bits");
        assert_eq!(plain.working, 2000);
        assert_eq!(of("paged_adamw_32bit").1.working, 2000 + 8 * parameters, "state in files");
        assert_eq!(of("sgd").1.checkpoints, 4 * 4 * parameters, "without state");
        assert_eq!(plain.total, plain.checkpoints + plain.working + plain.model);
    }
}
