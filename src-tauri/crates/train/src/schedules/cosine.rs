//! Half a cosine down to zero.

use std::f64::consts::PI;

use types::LrScheduler;

use super::{Schedule, Span};

/// `(1 + cos(π · progress)) / 2`.
pub struct Cosine;

impl Schedule for Cosine {
    fn name(&self) -> LrScheduler {
        LrScheduler::Cosine
    }

    fn factor(&self, step: u64, span: &Span) -> f64 {
        (0.5 * (1.0 + (PI * span.progress(step)).cos())).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedules::tests::check;

    #[test]
    fn equals_transformers() {
        #[rustfmt::skip]
        check(&Cosine, &[
            (2e-4, 10, 0.3, &[
                0.0, 6.666666666666667e-05, 0.00013333333333333334, 0.0002, 0.0001900968867902419,
                0.00016234898018587337, 0.00012225209339563145, 7.774790660436858e-05, 3.7651019814126654e-05,
                9.903113209758096e-06,
            ]),
            (2e-4, 10, 0.0, &[
                0.0002, 0.00019510565162951537, 0.00018090169943749476, 0.00015877852522924732,
                0.00013090169943749476, 0.0001, 6.909830056250527e-05, 4.12214747707527e-05, 1.9098300562505266e-05,
                4.8943483704846475e-06,
            ]),
            (1e-3, 7, 0.03, &[
                0.0, 0.001, 0.0009330127018922195, 0.00075, 0.0005, 0.0002500000000000001, 6.698729810778065e-05,
            ]),
        ]);
    }
}
