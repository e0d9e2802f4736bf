//! How answers to questions are scored: by the rules of SQuAD's official evaluation scripts (v1.1 and v2.0, which differ only
//! where there is no answer).

use std::collections::HashMap;

use types::EvalMetric;
use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::{Answered, Better, Measured, Metric};

/// The part of the answers that are an accepted one, in percent.
pub struct ExactMatch;

/// How many words answer and accepted answer share, in percent: the harmonic mean of precision and recall.
pub struct F1;

impl Metric for ExactMatch {
    fn name(&self) -> &'static str {
        EvalMetric::ExactMatch.name()
    }

    fn description(&self) -> &'static str {
        "How many answers are exactly an accepted one, but for case, punctuation and articles."
    }

    fn unit(&self) -> &'static str {
        "%"
    }

    fn better(&self) -> Better {
        EvalMetric::ExactMatch.better()
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        Some(100.0 * measured.mean_score(EvalMetric::ExactMatch, exact_match)?)
    }
}

impl Metric for F1 {
    fn name(&self) -> &'static str {
        EvalMetric::F1.name()
    }

    fn description(&self) -> &'static str {
        "How far the words of an answer are those of an accepted one."
    }

    fn unit(&self) -> &'static str {
        "%"
    }

    fn better(&self) -> Better {
        EvalMetric::F1.better()
    }

    fn value(&self, measured: &Measured) -> Option<f64> {
        Some(100.0 * measured.mean_score(EvalMetric::F1, f1)?)
    }
}

/// 1 where the answer is one of the accepted ones after normalisation, else 0.
pub fn exact_match(row: &Answered) -> f64 {
    best(row, |answer, accepted| f64::from(answer == accepted))
}

/// The largest F1 over the accepted answers, 0 to 1. Without a word in one of the two it is 1 where both have none.
pub fn f1(row: &Answered) -> f64 {
    best(row, |answer, accepted| {
        if answer.is_empty() || accepted.is_empty() {
            return f64::from(answer == accepted);
        }
        let mut left: HashMap<&str, usize> = HashMap::new();
        for word in accepted {
            *left.entry(word).or_default() += 1;
        }
        let mut shared = 0;
        for word in answer {
            if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
                *count -= 1;
                shared += 1;
            }
        }
        2.0 * f64::from(shared) / (answer.len() + accepted.len()) as f64
    })
}

/// The best score over the accepted answers that have words; where none has, the right answer is none.
fn best(row: &Answered, score: impl Fn(&[String], &[String]) -> f64) -> f64 {
    let answer = words(&row.text);
    let worded = row.accepted.iter().map(|text| words(text)).filter(|words| !words.is_empty());
    worded.map(|accepted| score(&answer, &accepted)).reduce(f64::max).unwrap_or_else(|| score(&answer, &[]))
}

/// The words in lower case, without ASCII punctuation and the articles a, an and the.
fn words(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let run = |of_word: bool| rest.find(|c| is_of_word(c) != of_word).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(run(is_of_word(first)));
        kept.push_str(if ["a", "an", "the"].contains(&piece) { " " } else { piece });
        rest = after;
    }
    kept.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What Python's `re` takes for a letter of a word, so that an article ends where the official script says.
fn is_of_word(c: char) -> bool {
    use Category as C;
    c == '_'
        || matches!(
            get_general_category(c),
            C::UppercaseLetter
                | C::LowercaseLetter
                | C::TitlecaseLetter
                | C::ModifierLetter
                | C::OtherLetter
                | C::DecimalNumber
                | C::LetterNumber
                | C::OtherNumber
        )
}

/// What Python's `split` takes for white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
