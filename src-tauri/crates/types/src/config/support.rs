//! Settings that are valid but that this version cannot carry out. A run is refused with the reason before it
//! starts, so that nothing is ever silently ignored.

use super::TrainingConfig;
use crate::FieldError;

impl TrainingConfig {
    /// Every setting that no engine of this version carries out, with what to use instead.
    pub fn unsupported(&self) -> Vec<FieldError> {
        let fp16 = "fp16 needs a GPU, which this version does not use; use bf16";
        self.fp16.then(|| FieldError::value("fp16", fp16)).into_iter().collect()
    }
}
