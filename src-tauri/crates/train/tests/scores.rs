//! Scores of answers against those of the packages and scripts that the field measures with.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use train::metrics::{
    Answered,
    rouge::Rouge,
    squad::{exact_match, f1},
    stemmer::stem,
};

#[derive(Deserialize)]
struct Golden {
    rouge: Vec<RougePair>,
    squad: Vec<SquadPair>,
    stems: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RougePair {
    reference: String,
    answer: String,
    rouge1: f64,
    rouge2: f64,
    #[serde(rename = "rougeL")]
    rouge_l: f64,
}

#[derive(Deserialize)]
struct SquadPair {
    accepted: Vec<String>,
    answer: String,
    exact_match: f64,
    f1: f64,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/scores.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn stems_are_those_of_nltk() {
    let stems = golden().stems;
    assert!(stems.len() > 1000, "the goldens were read");
    let wrong: Vec<_> = stems.iter().filter(|(word, want)| stem(word) != **want).collect();
    let shown: Vec<_> = wrong.iter().take(20).map(|(word, want)| (word, want, stem(word))).collect();
    assert!(wrong.is_empty(), "{} words have another stem: {shown:?}", wrong.len());
}

#[test]
fn rouge_is_that_of_rouge_score() {
    let pairs = golden().rouge;
    assert_eq!(pairs.len(), 200, "the goldens were read");
    for RougePair { reference, answer, rouge1, rouge2, rouge_l } in pairs {
        let row = Answered { text: answer, accepted: vec![reference] };
        for (rouge, want) in [(Rouge::One, rouge1), (Rouge::Two, rouge2), (Rouge::Longest, rouge_l)] {
            let got = rouge.score(&row).unwrap_or(0.0);
            assert!((got - want).abs() < 1e-6, "{rouge:?} is {want}, not {got}: {row:?}");
        }
    }
}

#[test]
fn exact_match_and_f1_are_those_of_the_official_script() {
    let pairs = golden().squad;
    assert_eq!(pairs.len(), 200, "the goldens were read");
    for SquadPair { accepted, answer, exact_match: exact, f1: overlap } in pairs {
        let row = Answered { text: answer, accepted };
        assert_eq!(exact_match(&row), exact, "{row:?}");
        let got = f1(&row);
        assert!((got - overlap).abs() < 1e-6, "F1 is {overlap}, not {got}: {row:?}");
    }
}
