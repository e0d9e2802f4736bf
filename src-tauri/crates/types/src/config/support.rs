//! Settings that are valid but that this version cannot carry out. A run is refused with the reason before it
//! starts, so that nothing is ever silently ignored.

use super::TrainingConfig;
use crate::{FieldError, Strategy};

impl TrainingConfig {
    /// Every setting that no engine of this version carries out, with what to use instead.
    pub fn unsupported(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut refuse = |bad: bool, field: &str, msg: &str| {
            if bad {
                found.push(FieldError::value(field, msg));
            }
        };
        let strategy = format!("strategy {} is not available in this version; use sft", self.strategy);
        refuse(
            !matches!(self.strategy, Strategy::Sft | Strategy::Dpo | Strategy::Rlhf),
            "strategy",
            &strategy,
        );
        let quantised = "a quantised base is not available in this version; use bf16 to halve the memory";
        refuse(self.use_4bit, "use_4bit", quantised);
        refuse(self.use_8bit, "use_8bit", quantised);
        refuse(self.fp16, "fp16", "fp16 needs a GPU, which this version does not use; use bf16");
        found
    }
}
