//! ROUGE: how far a summary has the words of its reference, as the Python package `rouge_score` measures it, with stemmer.
//!
//! Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004); the F-measures. Words are runs of the letters a to z
//! and digits, as there: other scripts are not counted.

use std::collections::HashMap;

use types::EvalMetric;

use super::{Answered, Better, Measured, Metric, stemmer::stem};

/// Words up to this length are not stemmed.
const LONGEST_UNSTEMMED: usize = 3;

/// Shared runs of as many words, or the longest common subsequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rouge {
    /// Single words.
    One,
    /// Pairs of words.
    Two,
    /// The longest sequence of words that both have in this order.
    Longest,
}

impl Rouge {
    fn metric(self) -> EvalMetric {
        match self {
            Self::One => EvalMetric::Rouge1,
            Self::Two => EvalMetric::Rouge2,
            Self::Longest => EvalMetric::RougeL,
        }
    }

    /// The F-measure, 0 to 1: the best over the accepted summaries; `None` where no accepted one has a word that counts.
    pub fn score(self, row: &Answered) -> Option<f64> {
        let answer = words(&row.text);
        let accepted = row.accepted.iter().map(|text| words(text)).filter(|words| !words.is_empty());
        accepted.map(|accepted| self.fmeasure(&accepted, &answer)).reduce(f64::max)
    }

    fn fmeasure(self, reference: &[String], answer: &[String]) -> f64 {
        let (shared, all) = match self {
            Self::One => (shared_runs(reference, answer, 1), reference.len() + answer.len()),
            Self::Two => {
                let pairs = |words: &[String]| words.len().saturating_sub(1);
                (shared_runs(reference, answer, 2), pairs(reference) + pairs(answer))
            }
            Self::Longest => (longest_common(reference, answer), reference.len() + answer.len()),
        };
        // 2 P R / (P + R), with P and R the shared part of the answer and of the reference.
        if shared == 0 { 0.0 } else { 2.0 * shared as f64 / all as f64 }
    }
}

impl Metric for Rouge {
    fn name(&self) -> &'static str {
        self.metric().name()
    }

    fn description(&self) -> &'static str {
        match self {
            Self::One => "How many words a summary shares with its reference.",
            Self::Two => "How many pairs of words a summary shares with its reference.",
            Self::Longest => "How long a sequence of words a summary shares with its reference.",
        }
    }

    fn unit(&self) -> &'static str {
        "F-measure, 0 to 1"
    }

    fn better(&self) -> Better {
        self.metric().better()
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        // Zero would be no measurement where no reference has a word that counts.
        let countable = measured.answers.iter().any(|row| self.score(row).is_some());
        countable.then(|| measured.mean_score(self.metric(), |row| self.score(row).unwrap_or(0.0)))?
    }
}

/// Words of ASCII letters and digits in lower case, the longer ones by their stems.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| if word.len() > LONGEST_UNSTEMMED { stem(word) } else { word.to_owned() }).collect()
}

/// How many runs of `n` words both have, each as often as both have it.
fn shared_runs(reference: &[String], answer: &[String], n: usize) -> usize {
    let mut left: HashMap<&[String], usize> = HashMap::new();
    for run in reference.windows(n) {
        *left.entry(run).or_default() += 1;
    }
    let take = |run: &&[String]| match left.get_mut(*run) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    answer.windows(n).filter(take).count()
}

/// Length of the longest common subsequence, a row of the table at a time.
fn longest_common(reference: &[String], answer: &[String]) -> usize {
    let mut row = vec![0; answer.len() + 1];
    for word in reference {
        let mut diagonal = 0;
        for (at, other) in answer.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}
