//! Settings that are valid but that this version cannot carry out. A run is refused with the reason before it
//! starts, so that nothing is ever silently ignored.

use super::TrainingConfig;
use crate::FieldError;

impl TrainingConfig {
    /// Every setting that no engine on the processor carries out, with what to use instead.
    pub fn unsupported(&self) -> Vec<FieldError> {
        self.unsupported_on(false)
    }

    /// The same where a `card` is computed on, or none.
    pub fn unsupported_on(&self, card: bool) -> Vec<FieldError> {
        let fp16 = "fp16 needs a GPU; on the processor use bf16";
        (self.fp16 && !card).then(|| FieldError::value("fp16", fp16)).into_iter().collect()
    }
}
