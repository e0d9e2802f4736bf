//! Polynomial decay with transformers' defaults: power 1, down to a learning rate of 1e-7.

use types::LrScheduler;

use super::{Schedule, Span};

/// Where the decay ends. A smaller learning rate stays as it is, for which transformers has no answer.
const END: f64 = 1e-7;

/// `(peak - end) · (1 - progress) + end`, relative to the peak.
pub struct Polynomial;

impl Schedule for Polynomial {
    fn name(&self) -> LrScheduler {
        LrScheduler::Polynomial
    }

    fn factor(&self, step: u64, span: &Span) -> f64 {
        let end = END.min(span.peak);
        ((span.peak - end) * (1.0 - span.progress(step)).max(0.0) + end) / span.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedules::tests::check;

    #[test]
    fn equals_transformers() {
        #[rustfmt::skip]
        check(&Polynomial, &[
            (2e-4, 10, 0.3, &[
                0.0, 6.666666666666667e-05, 0.00013333333333333334, 0.0002, 0.00017144285714285716,
                0.0001428857142857143, 0.00011432857142857143, 8.577142857142858e-05, 5.721428571428572e-05,
                2.8657142857142867e-05,
            ]),
            (2e-4, 10, 0.0, &[
                0.0002, 0.00018001, 0.00016002000000000003, 0.00014003, 0.00012004, 0.00010005,
                8.006000000000002e-05, 6.007000000000001e-05, 4.0079999999999996e-05, 2.0089999999999996e-05,
            ]),
            (1e-3, 7, 0.03, &[
                0.0, 0.001, 0.00083335, 0.0006667, 0.0005000499999999999, 0.0003334, 0.00016674999999999996,
            ]),
            (1e-8, 3, 0.0, &[1e-8; 3]),
        ]);
    }
}
