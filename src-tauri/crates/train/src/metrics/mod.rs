//! Metrics: what a run is judged by. What was not measured is absent, never zero.

mod eval_loss;
mod final_loss;
mod loss;
mod perplexity;

use std::collections::BTreeMap;

pub use final_loss::WINDOW;

/// Which direction is progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Smaller values.
    Lower,
    /// Larger values.
    Higher,
}

/// A summed loss and the number of its terms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Total {
    /// The sum.
    pub sum: f64,
    /// Trained tokens, for a negative log-likelihood.
    pub terms: usize,
}

impl Total {
    /// The mean, if there are any terms.
    pub fn mean(&self) -> Option<f64> {
        (self.terms > 0).then(|| self.sum / self.terms as f64)
    }
}

/// What metrics are computed from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured<'a> {
    /// The loss of one optimizer step.
    pub step: Option<Total>,
    /// The losses of the last steps of a run that is over, oldest first, at most [`WINDOW`].
    pub last_losses: &'a [f64],
    /// The loss on the evaluation rows.
    pub eval: Option<Total>,
}

/// A number that a run is judged by.
pub trait Metric: Sync {
    /// Its key wherever metrics are shown or stored.
    fn name(&self) -> &'static str;

    /// One sentence for people.
    fn description(&self) -> &'static str;

    /// Such as `nats/token`.
    fn unit(&self) -> &'static str;

    /// Which direction is progress.
    fn better(&self) -> Better;

    /// Its value, where what it needs was measured.
    fn value(&self, measured: &Measured) -> Option<f64>;
}

/// Every metric.
pub const METRICS: &[&dyn Metric] =
    &[&loss::Loss, &final_loss::FinalLoss, &eval_loss::EvalLoss, &perplexity::Perplexity];

/// Every metric that has a finite value, by name.
pub fn measure(measured: &Measured) -> BTreeMap<String, f64> {
    METRICS
        .iter()
        .filter_map(|metric| Some((metric.name().to_owned(), metric.value(measured)?)))
        .filter(|(_, value)| value.is_finite())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        let names: std::collections::BTreeSet<&str> = METRICS.iter().map(|m| m.name()).collect();
        assert_eq!(names.len(), METRICS.len(), "a name stands for one metric");
        for metric in METRICS {
            assert!(metric.description().ends_with('.') && !metric.unit().is_empty(), "{}", metric.name());
        }
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        assert!(measure(&Measured::default()).is_empty());
        let total = Total { sum: 6.0, terms: 3 };
        let cases: [(Measured, &[(&str, f64)]); 4] = [
            (Measured { step: Some(total), ..Default::default() }, &[("loss", 2.0)]),
            (Measured { last_losses: &[3.0, 1.0], ..Default::default() }, &[("final_loss", 2.0)]),
            (
                Measured { eval: Some(total), ..Default::default() },
                &[("eval_loss", 2.0), ("perplexity", 2f64.exp())],
            ),
            (Measured { eval: Some(Total::default()), ..Default::default() }, &[]),
        ];
        for (measured, want) in cases {
            let want: BTreeMap<String, f64> = want.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
            assert_eq!(measure(&measured), want, "{measured:?}");
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_left_out() {
        let hopeless = Total { sum: 1e6, terms: 1 };
        let got = measure(&Measured { eval: Some(hopeless), ..Default::default() });
        assert_eq!(got.keys().collect::<Vec<_>>(), ["eval_loss"], "e to the millionth is not finite");
    }
}
