//! Supervised fine-tuning: the likelihood of the answers.

use candle_core::{Result, Tensor};
use data::{Batch, Encoded};
use models::CausalLm;

use super::Strategy;

// `data` marks what is not counted and `kernels` reads it; neither may know the other.
const _: () =
    assert!(data::IGNORED == kernels::IGNORED, "both must mean the same by a target that is not counted");

/// Negative log-likelihood of the trained tokens.
pub struct Sft;

impl Strategy for Sft {
    fn name(&self) -> types::Strategy {
        types::Strategy::Sft
    }

    fn collate(&self, rows: &[Encoded]) -> Batch {
        let mut batch = Batch::default();
        for row in rows {
            batch.push(&row.ids, &row.trained);
        }
        batch
    }

    fn terms(&self, batch: &Batch) -> usize {
        batch.trained_tokens()
    }

    fn loss(&self, model: &dyn CausalLm, hidden: &Tensor, batch: &Batch) -> Result<Tensor> {
        model.cross_entropy(hidden, &batch.targets)
    }
}
