//! Supervised fine-tuning: the likelihood of the answers.

use candle_core::{Result, Tensor};
use data::Batch;
use models::{Model, ModelView, Pass};

use super::{Loss, Strategy};

// `data` marks what is not counted and `kernels` reads it; neither may know the other.
const _: () =
    assert!(data::IGNORED == kernels::IGNORED, "both must mean the same by a target that is not counted");

/// Negative log-likelihood of the trained tokens; where a model points at answers, of their first and last token, the mean of
/// both.
pub struct Sft;

impl Strategy for Sft {
    fn terms(&self, batch: &Batch) -> usize {
        if batch.spans.is_empty() { batch.trained_tokens() } else { batch.spans.len() }
    }

    fn loss(&self, model: &dyn Model, hidden: &Tensor, batch: &Batch, pass: Pass) -> Result<Loss> {
        let sum = match model.view() {
            ModelView::Causal(model) => model.cross_entropy(hidden, &batch.targets),
            ModelView::Seq2Seq(model) => model.cross_entropy(hidden, &batch.targets),
            ModelView::Span(model) => {
                let logits = model.span_logits(hidden, pass)?;
                kernels::span_cross_entropy(&logits, &batch.lengths, &batch.spans)
            }
        };
        sum.map(Loss::from)
    }
}
