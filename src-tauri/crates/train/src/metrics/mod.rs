//! Metrics: what a run is judged by. What was not measured is absent, never zero.

mod eval_loss;
mod final_loss;
mod loss;
mod perplexity;
mod preference;
pub mod rouge;
pub mod squad;
pub mod stemmer;

use std::collections::BTreeMap;

pub use final_loss::WINDOW;
pub use types::Better;
use types::{EvalMetric, Strategy, Task};

/// What a model answered to a row, and what counts as right.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answered {
    /// Its answer.
    pub text: String,
    /// The row's own answers; none where the right answer is none.
    pub accepted: Vec<String>,
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

/// Named values that a strategy measures besides its loss, each a mean over its terms.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed(BTreeMap<&'static str, Total>);

impl Observed {
    /// Adds the terms of a name.
    pub fn add(&mut self, name: &'static str, terms: impl IntoIterator<Item = f64>) {
        let total = self.0.entry(name).or_default();
        for term in terms {
            total.sum += term;
            total.terms += 1;
        }
    }

    /// Adds the terms of another.
    pub fn extend(&mut self, other: Self) {
        for (name, Total { sum, terms }) in other.0 {
            let total = self.0.entry(name).or_default();
            total.sum += sum;
            total.terms += terms;
        }
    }

    /// The mean of a name, if it has terms.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.mean()
    }

    /// The means of all names that are finite numbers.
    pub fn means(&self) -> BTreeMap<String, f64> {
        let means = self.0.iter().filter_map(|(name, total)| Some(((*name).to_owned(), total.mean()?)));
        means.filter(|(_, value)| value.is_finite()).collect()
    }
}

/// What metrics are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The loss of one optimizer step.
    pub step: Option<Total>,
    /// The losses of the last steps of a run that is over, oldest first, at most [`WINDOW`].
    pub last_losses: &'a [f64],
    /// The loss on the evaluation rows.
    pub eval: Option<Total>,
    /// What the rows ask for.
    pub task: Option<Task>,
    /// How the model learns from them.
    pub strategy: Strategy,
    /// What the strategy measured on the evaluation rows besides the loss.
    pub observed: Option<&'a Observed>,
    /// What the model answered to evaluation rows.
    pub answers: &'a [Answered],
}

impl Default for Measured<'_> {
    fn default() -> Self {
        let strategy = Strategy::Sft;
        Self { step: None, last_losses: &[], eval: None, task: None, strategy, observed: None, answers: &[] }
    }
}

impl Measured<'_> {
    /// The mean over the answered rows of a score that goes with their task, if there are any.
    fn mean_score(&self, metric: EvalMetric, score: impl Fn(&Answered) -> f64) -> Option<f64> {
        let fits =
            self.task.is_some_and(|task| metric.goes_with(task, self.strategy)) && !self.answers.is_empty();
        fits.then(|| self.answers.iter().map(score).sum::<f64>() / self.answers.len() as f64)
    }
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
pub const METRICS: &[&dyn Metric] = &[
    &loss::Loss,
    &final_loss::FinalLoss,
    &eval_loss::EvalLoss,
    &perplexity::Perplexity,
    &rouge::Rouge::One,
    &rouge::Rouge::Two,
    &rouge::Rouge::Longest,
    &squad::ExactMatch,
    &squad::F1,
    &preference::REWARD_ACCURACIES,
    &preference::REWARD_MARGINS,
    &preference::EVAL_REWARD,
];

/// Every metric that has a finite value, by name, and whatever else the strategy observed.
pub fn measure(measured: &Measured) -> BTreeMap<String, f64> {
    let mut values = measured.observed.map(Observed::means).unwrap_or_default();
    let metrics =
        METRICS.iter().filter_map(|metric| Some((metric.name().to_owned(), metric.value(measured)?)));
    values.extend(metrics.filter(|(_, value)| value.is_finite()));
    values
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
    fn what_a_run_can_be_judged_by_is_measured() {
        for metric in EvalMetric::ALL {
            let found = METRICS.iter().find(|m| m.name() == metric.name()).expect("every setting has code");
            assert_eq!(found.better(), metric.better(), "{metric}");
        }
    }

    #[test]
    fn answers_are_scored_by_what_their_task_asks_for() {
        let row = |text: &str, accepted: &[&str]| Answered {
            text: text.into(),
            accepted: accepted.iter().map(|&text| text.into()).collect(),
        };
        let answers =
            [row("the ship sailed", &["a ship sails early"]), row("nothing", &["harbour", "Nothing!"])];
        let all = |task| measure(&Measured { task, answers: &answers, ..Default::default() });
        let summarized = all(Some(Task::Summarization));
        let names = |metrics: &BTreeMap<String, f64>| metrics.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&summarized), ["rouge1", "rouge2", "rougeL"]);
        assert_eq!(
            summarized["rouge1"],
            (4.0 / 7.0 + 1.0) / 2.0,
            "the mean of the rows, the best accepted each"
        );
        let questions = all(Some(Task::ExtractiveQuestionAnswering));
        assert_eq!(names(&questions), ["exact_match", "f1"]);
        assert_eq!((questions["exact_match"], questions["f1"]), (50.0, 70.0), "in percent");
        assert!(all(Some(Task::TextGeneration)).is_empty() && all(None).is_empty());

        let foreign = [row("灯台", &["灯台"])];
        let of = |task| measure(&Measured { task: Some(task), answers: &foreign, ..Default::default() });
        assert!(of(Task::Summarization).is_empty(), "no reference has words that ROUGE counts: not measured");
        assert_eq!(of(Task::ExtractiveQuestionAnswering)["f1"], 100.0);
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
