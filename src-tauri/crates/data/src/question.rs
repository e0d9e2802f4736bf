//! A question and the text that holds its answer, as a model reads them that points at answers: in windows that overlap where
//! the text is long, with the place of the answer in each.

use std::ops::Range;

use crate::{DataError, Encoded, Example, Tokenizer};

/// Tokens that two windows of one text share: as many as in the examples of transformers, or a quarter of a window where that
/// is less.
pub fn overlap(window: usize) -> usize {
    (window / 4).min(128)
}

/// One window: the question, and as much of the text as fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Token ids, special ones included.
    pub ids: Vec<u32>,
    /// The segment of each id.
    pub token_types: Vec<u8>,
    /// The tokens that are of the text.
    pub text: Range<usize>,
    /// Bytes of the text that each of those tokens stands for.
    offsets: Vec<Range<usize>>,
    /// The word that each of those tokens is a part of.
    words: Vec<Option<u32>>,
}

impl Window {
    /// The bytes of the text from token `first` to token `last`, which are of the text, both grown to whole words as far as the
    /// window shows them.
    pub fn bytes(&self, first: usize, last: usize) -> Option<Range<usize>> {
        let (first, last) = (first.checked_sub(self.text.start)?, last.checked_sub(self.text.start)?);
        let same_word = |token: usize, other: &usize| {
            self.words
                .get(token)
                .copied()
                .flatten()
                .is_some_and(|word| self.words.get(*other) == Some(&Some(word)))
        };
        let start = (0..first).find(|token| same_word(first, token)).unwrap_or(first);
        let end = (last + 1..self.words.len()).rfind(|token| same_word(last, token)).unwrap_or(last);
        Some(self.offsets.get(start)?.start..self.offsets.get(end)?.end)
    }

    /// First and last token of the bytes `answer` of the text; of an answer that is not wholly in this window, the first token of
    /// all, which stands for no answer.
    fn span(&self, answer: Option<&Range<usize>>) -> (u32, u32) {
        let found = answer.and_then(|answer| {
            let (first, last) = (self.offsets.first()?, self.offsets.last()?);
            if first.start > answer.start || last.end < answer.end {
                return None;
            }
            let start = self.offsets.partition_point(|token| token.start <= answer.start).checked_sub(1)?;
            let end = self.offsets.partition_point(|token| token.end < answer.end);
            let place = |at: usize| u32::try_from(self.text.start + at).ok();
            place(start).zip(place(end.max(start)))
        });
        found.unwrap_or((0, 0))
    }
}

/// The bytes of `context` that are the answer `text`: those at character `start`, where that is told and true, or else the
/// first that read like it.
fn find(text: &str, start: Option<usize>, context: &str) -> Option<Range<usize>> {
    let answer = text.trim();
    if answer.is_empty() {
        return None;
    }
    let told = start.and_then(|start| {
        let spaces = text.chars().take_while(|c| c.is_whitespace()).count();
        let at = context.char_indices().nth(start + spaces)?.0;
        context.get(at..)?.starts_with(answer).then_some(at)
    });
    let at = told.or_else(|| context.find(answer))?;
    Some(at..at + answer.len())
}

impl Tokenizer {
    /// The windows of a question about a text, each of at most `max_len` tokens, two in a row sharing `overlap` tokens of the
    /// text. Only the text is cut.
    ///
    /// # Errors
    /// A text that cannot be encoded, and a question that leaves no room for the text.
    pub fn windows(
        &self,
        question: &str,
        context: &str,
        max_len: usize,
        overlap: usize,
    ) -> Result<Vec<Window>, DataError> {
        let encoding = self.pair_encoding(question, context)?;
        let sequences = encoding.get_sequence_ids();
        let of_text = |sequence: &Option<usize>| *sequence == Some(1);
        let start = sequences.iter().position(of_text).unwrap_or(sequences.len());
        let end = sequences.iter().rposition(of_text).map_or(start, |last| last + 1);
        let fixed = encoding.len() - (end - start);
        let room = max_len.saturating_sub(fixed);
        if room == 0 {
            return Err(DataError::QuestionTooLong { max_len, question: fixed });
        }
        let step = room - overlap.min(room - 1);
        let ids = encoding.get_ids();
        let segments: Vec<u8> =
            encoding.get_type_ids().iter().map(|&segment| u8::from(segment > 0)).collect();
        let mut windows = Vec::new();
        let mut from = start;
        loop {
            let to = (from + room).min(end);
            windows.push(Window {
                ids: [&ids[..start], &ids[from..to], &ids[end..]].concat(),
                token_types: [&segments[..start], &segments[from..to], &segments[end..]].concat(),
                text: start..start + (to - from),
                offsets: encoding.get_offsets()[from..to].iter().map(|&(a, b)| a..b).collect(),
                words: encoding.get_word_ids()[from..to].to_vec(),
            });
            if to == end {
                return Ok(windows);
            }
            from += step;
        }
    }

    /// The windows of a row, at most `max_len` tokens each, with the place of the first answer in them.
    ///
    /// # Errors
    /// As [`Tokenizer::windows`]; a row that is no question about a text, and an answer that is not in the text.
    pub fn encode_windows(&self, example: &Example, max_len: usize) -> Result<Vec<Encoded>, DataError> {
        let Example::Question { context, question, answers, start } = example else {
            return Err(DataError::NoQuestion);
        };
        let place = match answers.first() {
            None => None,
            Some(text) => {
                let missing = || DataError::AnswerNotInContext { answer: shown(text) };
                Some(find(text, *start, context).ok_or_else(missing)?)
            }
        };
        let windows = self.windows(question, context, max_len, overlap(max_len))?;
        let encoded = windows.into_iter().map(|window| {
            let span = window.span(place.as_ref());
            let trained = vec![false; window.ids.len()];
            let Window { ids, token_types, .. } = window;
            Encoded { ids, trained, token_types, span: Some(span), ..Encoded::default() }
        });
        Ok(encoded.collect())
    }
}

/// Enough of an answer to recognise it.
fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_where_it_is_said_to_be_or_where_it_first_reads_so() {
        let context = "Ä b, b and b";
        let find = |text: &str, start: Option<usize>| find(text, start, context).map(|r| r.start);
        assert_eq!(find("b", None), Some(3), "bytes, not characters; the first of three");
        assert_eq!(find("b", Some(5)), Some(6), "the one at character 5");
        assert_eq!(find("b", Some(4)), Some(3), "a wrong place is not believed");
        assert_eq!(find(" b", Some(4)), Some(6), "spaces around an answer are none of it");
        assert_eq!(find("b", Some(99)), Some(3));
        assert_eq!(find("c", None), None);
        assert_eq!(find(" ", None), None, "nothing is nowhere");
    }
}
