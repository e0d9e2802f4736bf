//! Straight down to zero.

use types::LrScheduler;

use super::{Schedule, Span};

/// `1 - progress`.
pub struct Linear;

impl Schedule for Linear {
    fn name(&self) -> LrScheduler {
        LrScheduler::Linear
    }

    fn factor(&self, step: u64, span: &Span) -> f64 {
        (1.0 - span.progress(step)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedules::tests::check;

    #[test]
    fn equals_transformers() {
        #[rustfmt::skip]
        check(&Linear, &[
            (2e-4, 10, 0.3, &[
                0.0, 6.666666666666667e-05, 0.00013333333333333334, 0.0002, 0.00017142857142857143,
                0.00014285714285714287, 0.00011428571428571428, 8.571428571428571e-05, 5.714285714285714e-05,
                2.857142857142857e-05,
            ]),
            (2e-4, 10, 0.0, &[0.0002, 0.00018, 0.00016, 0.00014, 0.00012, 0.0001, 8e-05, 6e-05, 4e-05, 2e-05]),
            (1e-3, 7, 0.03, &[
                0.0, 0.001, 0.0008333333333333334, 0.0006666666666666666, 0.0005, 0.0003333333333333333,
                0.00016666666666666666,
            ]),
        ]);
    }
}
