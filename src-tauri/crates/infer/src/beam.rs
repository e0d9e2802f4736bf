//! The search for the likeliest text that follows several at a time (beam search), in the order of transformers'
//! `_beam_search`, so that the same logits give the same text.

use std::cmp::Ordering;

use candle_core::Result;
use data::EarlyStopping;

use crate::{InferError, Sampler, rules::Rules};

/// The score of what is no candidate; added to others it puts them behind all that are.
const OUT: f32 = -1e9;

/// Texts that grow together, one token each at a time.
pub(crate) trait Growing {
    /// Appends a token to each; gives the logits of the next, or `None` where nobody wants them any more.
    fn push(&mut self, ids: &[u32]) -> Result<Option<Vec<Vec<f32>>>>;

    /// Goes on from the texts of these places.
    fn select(&mut self, parents: &[usize]) -> Result<()>;
}

/// A text that is followed, or finished.
#[derive(Debug, Clone)]
struct Text {
    ids: Vec<u32>,
    score: f32,
    finished: bool,
}

/// A text with one token more.
struct Candidate {
    parent: usize,
    id: u32,
    score: f32,
    ends: bool,
}

/// The likeliest text that begins with `start`, which it includes; `None` where the search was broken off.
///
/// # Errors
/// The logits cannot be computed, or are no numbers.
pub(crate) fn search(
    texts: &mut dyn Growing,
    start: u32,
    beams: usize,
    rules: &Rules<'_>,
    sampler: &Sampler,
) -> std::result::Result<Option<Vec<u32>>, InferError> {
    let penalty = rules.writing.length_penalty;
    let stopping = rules.writing.early_stopping;
    let empty = |score| Text { ids: vec![start], score, finished: false };
    // All begin alike, so only the first counts until they differ.
    let mut running: Vec<Text> = (0..beams).map(|i| empty(if i == 0 { 0.0 } else { OUT })).collect();
    let mut best: Vec<Text> = vec![empty(OUT); beams];
    let mut improvable = true;
    texts.select(&vec![0; beams])?;
    loop {
        let last: Vec<u32> = running.iter().map(|text| text.ids.last().copied().unwrap_or(start)).collect();
        let Some(logits) = texts.push(&last)? else { return Ok(None) };
        let candidates = continuations(&running, logits, rules, sampler)?;

        let full = best.iter().all(|text| text.finished);
        let length = running.first().map_or(0, |text| text.ids.len());
        let with = |candidate: &Candidate| {
            let mut ids = running.get(candidate.parent).map_or_else(Vec::new, |text| text.ids.clone());
            ids.push(candidate.id);
            ids
        };
        // The rest of the candidates are there so that enough go on where the first ones end.
        let mut merged = best.clone();
        for (place, candidate) in candidates.iter().enumerate() {
            let finished = candidate.ends && place < beams;
            let mut score = candidate.score / (length as f32).powf(penalty);
            for out in [full && stopping == EarlyStopping::Yes, !improvable, !finished] {
                score += if out { OUT } else { 0.0 };
            }
            merged.push(Text { ids: with(candidate), score, finished });
        }
        merged.sort_by(|a, b| descending(a.score, b.score));
        merged.truncate(beams);

        let all_end = candidates.iter().all(|candidate| candidate.ends);
        let score = |candidate: &Candidate| candidate.score + if candidate.ends { OUT } else { 0.0 };
        let mut order: Vec<&Candidate> = candidates.iter().collect();
        order.sort_by(|a, b| descending(score(a), score(b)));
        order.truncate(beams);
        let parents: Vec<usize> = order.iter().map(|candidate| candidate.parent).collect();
        let next = order
            .iter()
            .map(|candidate| Text { ids: with(candidate), score: score(candidate), finished: false })
            .collect();
        (running, best) = (next, merged);

        improvable &= improvement_possible(&running, &best, rules);
        let over = best.iter().all(|text| text.finished) && stopping == EarlyStopping::Yes;
        if !improvable || over || all_end {
            return Ok(best.into_iter().next().map(|text| text.ids));
        }
        texts.select(&parents)?;
    }
}

/// The likeliest continuations of all texts, the likeliest first.
fn continuations(
    running: &[Text],
    logits: Vec<Vec<f32>>,
    rules: &Rules<'_>,
    sampler: &Sampler,
) -> std::result::Result<Vec<Candidate>, InferError> {
    let mut scored: Vec<(f32, usize, u32)> = Vec::new();
    let keep = (1 + rules.eos.len()).max(2) * running.len();
    for (parent, (text, mut scores)) in running.iter().zip(logits).enumerate() {
        if scores.iter().fold(false, |damaged, score| damaged | !score.is_finite()) {
            return Err(InferError::NotFinite);
        }
        log_softmax(&mut scores);
        sampler.penalize(&mut scores, &text.ids);
        rules.apply(&text.ids, &mut scores);
        let mut own: Vec<(f32, usize, u32)> =
            (0u32..).zip(&scores).map(|(id, score)| (score + text.score, parent, id)).collect();
        keep_first(&mut own, keep);
        scored.extend(own);
    }
    keep_first(&mut scored, keep);
    Ok(scored
        .into_iter()
        .filter_map(|(score, parent, id)| {
            let text = running.get(parent)?;
            Some(Candidate { parent, id, score, ends: rules.ends(text.ids.len() + 1, id) })
        })
        .collect())
}

/// The first `keep` by score, sorted.
fn keep_first(scored: &mut Vec<(f32, usize, u32)>, keep: usize) {
    let order = |a: &(f32, usize, u32), b: &(f32, usize, u32)| {
        descending(a.0, b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
    };
    if keep < scored.len() {
        scored.select_nth_unstable_by(keep, order);
        scored.truncate(keep);
    }
    scored.sort_by(order);
}

/// Whether a text that is still followed may become better than the worst of the finished ones.
fn improvement_possible(running: &[Text], best: &[Text], rules: &Rules<'_>) -> bool {
    let Some(first) = running.first() else { return false };
    let penalty = rules.writing.length_penalty;
    let longest = match rules.writing.early_stopping {
        EarlyStopping::Never if penalty > 0.0 => rules.max_length - 1,
        _ => first.ids.len() - 1,
    };
    let possible = first.score / (longest as f32).powf(penalty);
    let worst = best.iter().map(|text| text.score).fold(f32::INFINITY, f32::min);
    best.iter().any(|text| possible > if text.finished { worst } else { OUT })
}

fn descending(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

fn log_softmax(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = values.iter().map(|value| (value - max).exp()).sum();
    let log = sum.ln();
    values.iter_mut().for_each(|value| *value = *value - max - log);
}

#[cfg(test)]
mod tests {
    use data::Writing;

    use super::*;

    /// Logits that depend on the last token alone.
    struct Table {
        rows: Vec<Vec<f32>>,
        pushed: usize,
    }

    impl Growing for Table {
        fn push(&mut self, ids: &[u32]) -> Result<Option<Vec<Vec<f32>>>> {
            self.pushed += 1;
            Ok(Some(ids.iter().map(|&id| self.rows[id as usize].clone()).collect()))
        }

        fn select(&mut self, _: &[usize]) -> Result<()> {
            Ok(())
        }
    }

    /// Token 1 is likelier than 2 at first, but what follows 2 is certain; 3 ends.
    fn table() -> Table {
        let ln = |row: [f32; 4]| row.map(f32::ln).to_vec();
        let rows = vec![
            ln([0.01, 0.55, 0.43, 0.01]),
            ln([0.4, 0.25, 0.25, 0.1]),
            ln([0.01, 0.01, 0.01, 0.97]),
            vec![0.0; 4],
        ];
        Table { rows, pushed: 0 }
    }

    fn sampler() -> Sampler {
        Sampler::new(&types::GenerateParams::greedy(1))
    }

    fn found(writing: &Writing, max_length: usize) -> Vec<u32> {
        let rules = Rules { writing, max_length, eos: &[3] };
        search(&mut table(), 0, writing.num_beams, &rules, &sampler()).unwrap().unwrap()
    }

    #[test]
    fn a_text_that_begins_less_likely_and_ends_likelier_is_found() {
        let writing = Writing { num_beams: 2, early_stopping: EarlyStopping::Yes, ..Writing::default() };
        assert_eq!(found(&writing, 6), [0, 2, 3]);
        let one = Writing { num_beams: 1, ..writing };
        assert_eq!(found(&one, 4)[..2], [0, 1], "one beam takes the likeliest token");
    }

    #[test]
    fn texts_have_the_lengths_that_are_asked_for() {
        let writing = Writing { num_beams: 2, min_length: 5, forced_eos: Some(3), ..Writing::default() };
        let text = found(&writing, 8);
        assert!(text.len() >= 6 && text.last() == Some(&3), "{text:?} is long enough before it ends");
        assert!(found(&writing, 4).len() == 4, "and never longer than allowed");
    }

    #[test]
    fn a_search_nobody_waits_for_ends() {
        struct Unwanted;
        impl Growing for Unwanted {
            fn push(&mut self, _: &[u32]) -> Result<Option<Vec<Vec<f32>>>> {
                Ok(None)
            }
            fn select(&mut self, _: &[usize]) -> Result<()> {
                Ok(())
            }
        }
        let writing = Writing { num_beams: 2, ..Writing::default() };
        let rules = Rules { writing: &writing, max_length: 6, eos: &[3] };
        assert!(search(&mut Unwanted, 0, 2, &rules, &sampler()).unwrap().is_none());
    }
}
