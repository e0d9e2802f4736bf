//! Stays as it is after the warm-up.
//!
//! transformers has two of this kind: `constant`, which ignores a warm-up, and `constant_with_warmup`. No setting is
//! ignored here: with a `warmup_ratio` above 0 this is the second, with 0 the first.

use types::LrScheduler;

use super::{Schedule, Span};

/// 1.
pub struct Constant;

impl Schedule for Constant {
    fn name(&self) -> LrScheduler {
        LrScheduler::Constant
    }

    fn factor(&self, _step: u64, _span: &Span) -> f64 {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedules::tests::check;

    #[test]
    fn equals_transformers() {
        #[rustfmt::skip]
        check(&Constant, &[
            (2e-4, 10, 0.3, &[
                0.0, 6.666666666666667e-05, 0.00013333333333333334, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002,
                0.0002,
            ]),
            (2e-4, 10, 0.0, &[0.0002; 10]),
            (1e-3, 7, 0.03, &[0.0, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001]),
        ]);
    }
}
