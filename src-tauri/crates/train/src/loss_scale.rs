//! The scale of the loss where gradients are in f16, which holds nothing below 6e-8 and nothing above 65504 (Micikevicius et al. 2018,
//! arXiv:1710.03740): as large as the gradients allow, found as torch's `GradScaler` finds it.

use serde::{Deserialize, Serialize};

use crate::progress::Exact;

const START: f64 = 65536.0;
/// Steps in a row that went well, after which twice as large a scale is tried.
const PATIENCE: u32 = 2000;
/// Nothing is gained by a larger scale, and this one is far from the end of f32.
const LARGEST: f64 = 16_777_216.0;

/// The scale in force, and what it was found from. All of it goes into checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: Exact,
    /// Steps since it was changed.
    good_steps: u32,
    /// Optimizer steps that were left out because a gradient was not finite.
    skipped: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: Exact(START), good_steps: 0, skipped: 0 }
    }
}

impl LossScale {
    /// What the loss is multiplied by, and gradients are divided by. Always a power of two, so nothing is rounded.
    pub fn factor(&self) -> f64 {
        self.scale.0
    }

    /// Optimizer steps that were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes note of a step whose gradients were all finite: a larger scale may do too.
    pub fn grow(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= PATIENCE {
            self.good_steps = 0;
            self.scale.0 = (2.0 * self.scale.0).min(LARGEST);
        }
    }

    /// Takes note of a step that is left out because a gradient was not finite. False where the scale is not to blame: then a smaller
    /// one will not help.
    pub fn shrink(&mut self) -> bool {
        self.good_steps = 0;
        self.skipped += 1;
        self.scale.0 /= 2.0;
        self.scale.0 >= 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_halved_at_once_and_doubled_after_many_good_steps() {
        let mut scale = LossScale::default();
        assert_eq!(scale.factor(), 65536.0);
        assert!(scale.shrink() && scale.shrink());
        assert_eq!((scale.factor(), scale.skipped()), (16384.0, 2));
        (0..PATIENCE - 1).for_each(|_| scale.grow());
        assert_eq!(scale.factor(), 16384.0, "not a step too early");
        scale.grow();
        assert_eq!(scale.factor(), 32768.0);
        (0..PATIENCE - 1).for_each(|_| scale.grow());
        scale.shrink();
        scale.grow();
        assert_eq!(scale.factor(), 16384.0, "a bad step begins the count anew");
        (0..20 * PATIENCE).for_each(|_| scale.grow());
        assert_eq!(scale.factor(), LARGEST);
    }

    #[test]
    fn gradients_that_no_scale_makes_finite_end_the_run() {
        let mut scale = LossScale::default();
        let helped = (0..100).take_while(|_| scale.shrink()).count();
        assert_eq!(helped, 17, "down to a scale of one half");
    }

    #[test]
    fn it_comes_back_from_a_checkpoint_as_it_was() {
        let mut scale = LossScale::default();
        scale.shrink();
        (0..7).for_each(|_| scale.grow());
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }
}
