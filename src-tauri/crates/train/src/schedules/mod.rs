//! Learning-rate schedules, as transformers' `get_scheduler` computes them.

mod constant;
mod cosine;
mod linear;
mod polynomial;

use types::LrScheduler;

use crate::TrainError;

/// The shape of the learning rate over a run.
pub trait Schedule: Sync {
    /// The setting that picks it.
    fn name(&self) -> LrScheduler;

    /// What the highest learning rate is multiplied by after the warm-up. `step` counts from 0 over the whole run and
    /// is at least [`Span::warmup`].
    fn factor(&self, step: u64, span: &Span) -> f64;
}

/// Every schedule.
pub const SCHEDULES: &[&dyn Schedule] =
    &[&linear::Linear, &cosine::Cosine, &constant::Constant, &polynomial::Polynomial];

/// The schedule a setting picks.
pub(crate) fn find(name: LrScheduler) -> Result<&'static dyn Schedule, TrainError> {
    let schedule = SCHEDULES.iter().find(|schedule| schedule.name() == name).copied();
    schedule.ok_or(TrainError::NotAvailable { field: "lr_scheduler_type", value: name.name() })
}

/// What a schedule is spread over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Steps of the whole run.
    pub total: u64,
    /// Of those, steps in which the rate rises linearly from zero.
    pub warmup: u64,
    /// The highest learning rate.
    pub peak: f64,
}

impl Span {
    /// Warm-up takes `ceil(total × warmup_ratio)` steps.
    pub fn new(total: u64, warmup_ratio: f64, peak: f64) -> Self {
        Self { total, warmup: (total as f64 * warmup_ratio).ceil() as u64, peak }
    }

    /// The part of the steps after the warm-up that is over at `step`: 0 to 1.
    fn progress(&self, step: u64) -> f64 {
        step.saturating_sub(self.warmup) as f64 / self.total.saturating_sub(self.warmup).max(1) as f64
    }

    /// The learning rate of the step that comes after `step` others.
    pub fn learning_rate(&self, schedule: &dyn Schedule, step: u64) -> f64 {
        let factor =
            if step < self.warmup { step as f64 / self.warmup as f64 } else { schedule.factor(step, self) };
        self.peak * factor
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Compares a whole run's learning rates with those of transformers 5.23 (`get_scheduler` on torch's SGD, read
    /// before each step).
    pub(crate) fn check(schedule: &dyn Schedule, cases: &[(f64, u64, f64, &[f64])]) {
        for &(peak, total, warmup_ratio, want) in cases {
            let span = Span::new(total, warmup_ratio, peak);
            for (step, &want) in want.iter().enumerate() {
                let got = span.learning_rate(schedule, step as u64);
                assert!(
                    (got - want).abs() <= 1e-12 * peak,
                    "{} at step {step} of {total} with warm-up {warmup_ratio}: {got}, transformers gives {want}",
                    schedule.name()
                );
            }
        }
    }

    #[test]
    fn every_setting_has_its_schedule() {
        let names: Vec<LrScheduler> = SCHEDULES.iter().map(|s| s.name()).collect();
        assert_eq!(names, LrScheduler::ALL, "one schedule for each value of lr_scheduler_type, in its order");
    }

    #[test]
    fn a_run_of_warm_up_only_rises_to_the_end() {
        for schedule in SCHEDULES {
            check(*schedule, &[(0.5, 3, 1.0, &[0.0, 0.16666666666666666, 0.3333333333333333])]);
        }
    }

    #[test]
    fn warm_up_is_rounded_up() {
        assert_eq!(Span::new(7, 0.03, 1.0).warmup, 1, "as transformers rounds a warm-up ratio");
        assert_eq!(Span::new(7, 0.0, 1.0).warmup, 0);
    }
}
