//! The answer to a question about a text, as the part of the text that a model points at.
//!
//! As the question-answering pipeline of transformers finds it: in each window a softmax over the tokens that can be an answer,
//! and the first token, which stands for there being none; a span scores the product of its ends' probabilities; the best span
//! of all windows is grown to whole words. That there is no answer scores as in the window that believes it least.

use std::{ops::Range, time::Instant};

use candle_core::{Result, Tensor};
use data::{Tokenizer, Window, overlap, question_of};
use models::{Pass, Sequences, SpanModel};
use types::{
    GenerateParams, GenerateStats,
    generate::{AnswerSpan, FinishReason},
};

use crate::{InferError, Listener};

/// How an answer is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Tokens of a window; a model that reads fewer has smaller ones.
    pub window: usize,
    /// Tokens of the text that two windows in a row share; as many as in training where it is left out.
    pub overlap: Option<usize>,
    /// The longest answer, in tokens.
    pub longest: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self { window: 384, overlap: None, longest: 30 }
    }
}

/// The likeliest answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    /// Its bytes in the text, with no space at either end.
    pub bytes: Range<usize>,
    /// The product of the probabilities of its first and its last token.
    pub score: f64,
    /// The score of there being no answer.
    pub no_answer: f64,
    /// Its tokens.
    pub length: usize,
    /// Tokens that were computed.
    pub tokens: usize,
}

/// Looks for the answer to `question` in `context`. `None` where it is not `wanted` any more, which is asked before every
/// layer.
///
/// # Errors
/// A question that leaves no room for the text, a text without a token, and what the model cannot compute.
pub fn extract(
    model: &dyn SpanModel,
    tokenizer: &Tokenizer,
    question: &str,
    context: &str,
    search: &Search,
    pass: Pass,
    wanted: &dyn Fn() -> bool,
) -> std::result::Result<Option<Extracted>, InferError> {
    let window = search.window.min(model.info().context_length);
    let shared = search.overlap.unwrap_or_else(|| overlap(window));
    let mut best: Option<Extracted> = None;
    let (mut no_answer, mut tokens) = (1f64, 0);
    for window in tokenizer.windows(question, context, window, shared)? {
        let Some(logits) = span_logits(model, &window, pass, wanted)? else { return Ok(None) };
        tokens += window.ids.len();
        let scores = Scores::of(&logits, &window)?;
        no_answer = no_answer.min(scores.none);
        let Some((first, last, score)) = scores.best(search.longest) else { continue };
        if best.as_ref().is_none_or(|best| score > best.score)
            && let Some(bytes) = window.bytes(window.text.start + first, window.text.start + last)
        {
            best = Some(Extracted { bytes, score, no_answer: 0.0, length: last + 1 - first, tokens: 0 });
        }
    }
    let Some(best) = best else { return Err(InferError::EmptyPrompt) };
    let found = context.get(best.bytes.clone()).unwrap_or_default();
    let start = best.bytes.start + (found.len() - found.trim_start().len());
    let bytes = start..start + found.trim().len();
    Ok(Some(Extracted { bytes, no_answer, tokens, ..best }))
}

/// Answers a message that holds a text and a question about it, as [`extract`] does.
///
/// # Errors
/// As [`extract`]; a setting out of range, and a message that holds no question about a text.
pub(crate) fn point(
    model: &dyn SpanModel,
    tokenizer: &Tokenizer,
    message: &str,
    params: &GenerateParams,
    pass: Pass,
    listener: &mut dyn Listener,
) -> std::result::Result<(String, GenerateStats), InferError> {
    if let Some((field, problem)) = params.problems().into_iter().next() {
        return Err(InferError::Params { field, problem });
    }
    let parts = question_of(message).ok_or(InferError::NoQuestion)?;
    let (context, question) = (parts.text, parts.question.unwrap_or_default());
    let started = Instant::now();
    let search = Search::default();
    let found = extract(model, tokenizer, question, context, &search, pass, &|| listener.listens())?;
    let time = started.elapsed().as_millis() as u64;
    let mut stats = GenerateStats {
        prompt_tokens: found.as_ref().map_or(0, |found| found.tokens),
        tokens_generated: 0,
        prefill_ms: time,
        generation_time_ms: time,
        finish: FinishReason::Cancelled,
        span: None,
    };
    let Some(found) = found else { return Ok((String::new(), stats)) };
    stats.finish = FinishReason::Eos;
    let mut span = AnswerSpan { start: 0, end: 0, score: found.score, no_answer_score: found.no_answer };
    let mut text = "";
    if found.no_answer - found.score <= params.no_answer_threshold {
        text = context.get(found.bytes.clone()).unwrap_or_default();
        span.start = context.get(..found.bytes.start).unwrap_or_default().chars().count();
        span.end = span.start + text.chars().count();
        stats.tokens_generated = found.length;
        listener.text(text);
    }
    stats.span = Some(span);
    Ok((text.to_owned(), stats))
}

/// Logits of start and end, one pair a token; `None` where they are not wanted any more.
fn span_logits(
    model: &dyn SpanModel,
    window: &Window,
    pass: Pass,
    wanted: &dyn Fn() -> bool,
) -> Result<Option<Vec<Vec<f32>>>> {
    let sequences = Sequences::new(vec![window.ids.len()]);
    let types: Vec<u32> = window.token_types.iter().map(|&segment| u32::from(segment)).collect();
    let row = |values: &[u32]| Tensor::new(values, model.device());
    let mut hidden = model.embed(&row(&window.ids)?, &row(&types)?, &sequences)?;
    for index in 0..model.info().layers {
        if !wanted() {
            return Ok(None);
        }
        hidden = model.layer(index, &hidden, &sequences, pass)?;
    }
    model.span_logits(&hidden, pass)?.to_vec2().map(Some)
}

/// Probabilities within one window.
struct Scores {
    /// Of each token of the text being the first and the last of the answer.
    starts: Vec<f64>,
    ends: Vec<f64>,
    /// Of there being no answer.
    none: f64,
}

impl Scores {
    fn of(logits: &[Vec<f32>], window: &Window) -> std::result::Result<Self, InferError> {
        let text = logits.get(window.text.clone()).unwrap_or_default();
        let side = |column: usize| {
            let value = |row: &Vec<f32>| f64::from(row.get(column).copied().unwrap_or(f32::NAN));
            let all: Vec<f64> = logits.first().into_iter().chain(text).map(value).collect();
            let max = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let exponents: Vec<f64> = all.iter().map(|v| (v - max).exp()).collect();
            let sum: f64 = exponents.iter().sum();
            if sum.is_finite() {
                Ok(exponents.into_iter().map(move |e| e / sum))
            } else {
                Err(InferError::NotFinite)
            }
        };
        let (mut starts, mut ends) = (side(0)?, side(1)?);
        let none = starts.next().zip(ends.next()).map_or(0.0, |(start, end)| start * end);
        Ok(Self { starts: starts.collect(), ends: ends.collect(), none })
    }

    /// First and last token of the best span of at most `longest` tokens, counted within the text, and its score.
    fn best(&self, longest: usize) -> Option<(usize, usize, f64)> {
        let mut best: Option<(usize, usize, f64)> = None;
        for (first, start) in self.starts.iter().enumerate() {
            for (last, end) in self.ends.iter().enumerate().skip(first).take(longest.max(1)) {
                let score = start * end;
                if best.is_none_or(|(_, _, most)| score > most) {
                    best = Some((first, last, score));
                }
            }
        }
        best
    }
}
