//! A conversation as ids, with a flag for each id that the loss counts, cut to the longest length.
//!
//! Trained is what the model itself is to write: each assistant turn from the end of the generation prompt to its
//! end-of-turn token. The prompt's ids are those that generation starts from.

use std::ops::Range;

use types::{Message, Role, Task};

use crate::{
    error::DataError,
    example::Example,
    tokenizer::{Tokenizer, Tokens},
};

/// One sequence to train on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether the loss counts the prediction of each id.
    pub trained: Vec<bool>,
    /// Tokens cut off to fit the longest length.
    pub cut_tokens: usize,
    /// What an encoder-decoder reads; `ids` then begins with the token that its decoder starts from. Empty for other kinds of
    /// models.
    pub source: Vec<u32>,
    /// The segment of each id where a model points at answers. Empty for other kinds of models.
    pub token_types: Vec<u8>,
    /// Where a model points at answers: first and last token of the answer.
    pub span: Option<(u32, u32)>,
    /// Of two answers to one prompt the worse one, after the same prompt; the ids above are then of the better one.
    pub rejected: Option<Box<Encoded>>,
}

impl Encoded {
    /// How many ids the loss counts, a worse answer's included; the first id of a sequence is never predicted. Where a model
    /// points at answers, the two ends of the answer.
    pub fn trained_tokens(&self) -> usize {
        let rejected = self.rejected.as_ref().map_or(0, |rejected| rejected.trained_tokens());
        match self.span {
            Some(_) => 2,
            None => self.trained.iter().skip(1).filter(|&&t| t).count() + rejected,
        }
    }

    /// Tokens that are computed, the source and a worse answer's sequence included.
    pub fn tokens(&self) -> usize {
        self.ids.len() + self.source.len() + self.rejected.as_ref().map_or(0, |rejected| rejected.tokens())
    }
}

impl Tokenizer {
    /// The example's conversation for a task in at most `max_len` ids. Of a row that is too long, the oldest turns go
    /// first, then the start of the last prompt's text, then the end of the answer, of which at least a token stays. Of a
    /// preference both conversations, cut so that the prompt of both is the same; only the answers are counted.
    ///
    /// # Errors
    /// A conversation the template refuses or leaves the answer out of, a text that cannot be encoded, and a template
    /// that leaves no room for an answer.
    pub fn encode_example(
        &self,
        example: &Example,
        task: Task,
        max_len: usize,
    ) -> Result<Encoded, DataError> {
        if example.answers().is_empty() {
            return Err(DataError::NoAnswer);
        }
        let fixed_ends = example.fixed_ends(task);
        let Example::Preference { prompt, chosen, rejected } = example else {
            return self.encode_messages(&example.to_messages(task), fixed_ends, max_len);
        };
        let mut both = self.encode_alternatives(prompt, &[chosen, rejected], false, fixed_ends, max_len)?;
        let rejected = both.pop().map(Box::new);
        Ok(Encoded { rejected, ..both.pop().unwrap_or_default() })
    }

    /// `fixed_ends`: bytes at the start and end of the last user message that are not cut.
    pub(crate) fn encode_messages(
        &self,
        messages: &[Message],
        fixed_ends: (usize, usize),
        max_len: usize,
    ) -> Result<Encoded, DataError> {
        let mut encoded = self.encode_alternatives(messages, &[&[]], true, fixed_ends, max_len)?;
        Ok(encoded.pop().unwrap_or_default())
    }

    /// A conversation with each of several endings. `all`: whether the answers before the endings are counted too.
    fn encode_alternatives(
        &self,
        shared: &[Message],
        endings: &[&[Message]],
        all: bool,
        fixed_ends: (usize, usize),
        max_len: usize,
    ) -> Result<Vec<Encoded>, DataError> {
        let layouts = |shared: &[Message]| -> Result<Vec<Layout>, DataError> {
            let each = endings.iter().map(|ending| {
                let answers = ending.iter().filter(|m| m.role == Role::Assistant).count();
                let counted = if all { usize::MAX } else { answers };
                self.layout(&[shared, ending].concat(), counted, fixed_ends)
            });
            each.collect()
        };
        let whole = layouts(shared)?;
        let lengths: Vec<usize> = whole.iter().map(Layout::len).collect();
        let mut fitted = whole;
        if !fit(&fitted, max_len) {
            fitted = drop_turns(shared, max_len, layouts)?.unwrap_or(fitted);
        }
        if !fit(&fitted, max_len) {
            let answer = fitted.iter().map(|layout| layout.len() - layout.prompt()).max().unwrap_or(0);
            fitted =
                fitted.into_iter().map(|layout| layout.cut(max_len, answer)).collect::<Result<_, _>>()?;
        }
        fitted.into_iter().zip(lengths).map(|(layout, length)| layout.finish(length)).collect()
    }

    /// `counted`: how many of the assistant's turns are trained, from the last one backwards.
    fn layout(
        &self,
        messages: &[Message],
        counted: usize,
        fixed_ends: (usize, usize),
    ) -> Result<Layout, DataError> {
        let text = self.render(messages, false)?;
        let turns = self.turns(messages, &text)?;
        let (tokens, starts) = self.tokens(&text, &turns)?;
        let mut layout = Layout { trained: vec![false; tokens.ids.len()], cuttable: 0..0, tokens };
        let first_counted = turns.len().saturating_sub(counted);
        for (i, (turn, &start)) in turns.iter().zip(&starts).enumerate().skip(first_counted) {
            layout.mark(self, turn, start, i + 1 == turns.len());
        }
        let answer_start = turns.last().map_or(text.len(), |turn| turn.start);
        layout.cuttable =
            layout.find_cuttable(messages, text.get(..answer_start).unwrap_or(&text), fixed_ends);
        Ok(layout)
    }

    /// Where the assistant's turns stand in the text. A template that renders a conversation's beginning differently
    /// from its whole (hiding the reasoning of older turns, for instance) leaves only the last turn to be found.
    fn turns(&self, messages: &[Message], text: &str) -> Result<Vec<Turn>, DataError> {
        let content_end = |start: usize, content: &str| {
            let content = content.trim();
            text.get(start..).and_then(|rest| Some(start + rest.find(content)? + content.len()))
        };
        let mut turns = Vec::new();
        let answers = messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant);
        for (i, message) in answers {
            let last = i + 1 == messages.len();
            let start =
                self.render(&messages[..i], true).ok().filter(|prefix| text.starts_with(prefix.as_str()));
            let end = match last {
                true => Some(text.len()),
                false => self
                    .render(&messages[..=i], false)
                    .ok()
                    .filter(|prefix| text.starts_with(prefix.as_str()))
                    .map(|prefix| prefix.len()),
            };
            let turn = start.zip(end).and_then(|(prefix, end)| {
                let start = prefix.len();
                Some(Turn { start, content_end: content_end(start, &message.content)?, end })
            });
            turns.push(turn.filter(|turn| turn.content_end <= turn.end));
        }
        if let Some(turns) = turns.into_iter().collect::<Option<Vec<_>>>().filter(|turns| !turns.is_empty()) {
            return Ok(turns);
        }
        let content = messages.last().map_or("", |m| m.content.trim());
        let start =
            text.rfind(content).filter(|_| !content.is_empty()).ok_or(DataError::AnswerNotRendered)?;
        Ok(vec![Turn { start, content_end: start + content.len(), end: text.len() }])
    }

    /// The ids of the text, and the index of each turn's first id. The text is encoded as one where the ids before
    /// the last answer are then those of the prompt alone; else in pieces, if those still spell the same text.
    fn tokens(&self, text: &str, turns: &[Turn]) -> Result<(Tokens, Vec<usize>), DataError> {
        let whole = self.encode_with_offsets(text)?;
        let first_after = |start: usize| whole.offsets.partition_point(|&(_, end)| end <= start);
        let mut starts: Vec<usize> = turns.iter().map(|turn| first_after(turn.start)).collect();
        let prompt = match turns.last().and_then(|turn| text.get(..turn.start)) {
            Some(prompt) => self.encode_with_offsets(prompt)?.ids,
            None => return Ok((whole, starts)),
        };
        if whole.ids.starts_with(&prompt) {
            if let Some(last) = starts.last_mut() {
                *last = prompt.len();
            }
            return Ok((whole, starts));
        }

        let mut pieces = Tokens { ids: Vec::new(), offsets: Vec::new() };
        let mut piece_starts = Vec::new();
        let mut from = 0;
        for to in turns.iter().map(|turn| turn.start).chain([text.len()]) {
            let piece = text.get(from..to).unwrap_or_default();
            let tokens = if from == 0 { self.encode_with_offsets(piece)? } else { self.encode_piece(piece)? };
            pieces.ids.extend(tokens.ids);
            pieces.offsets.extend(tokens.offsets.iter().map(|&(start, end)| (start + from, end + from)));
            piece_starts.push(pieces.ids.len());
            from = to;
        }
        piece_starts.pop();
        if self.decode_all(&pieces.ids) == self.decode_all(&whole.ids) {
            starts = piece_starts;
            return Ok((pieces, starts));
        }
        Ok((whole, starts))
    }
}

fn fit(layouts: &[Layout], max_len: usize) -> bool {
    layouts.iter().all(|layout| layout.len() <= max_len)
}

/// Leaves out as few of the oldest exchanges as will do, or all but the last; `None` where there is only one.
fn drop_turns(
    messages: &[Message],
    max_len: usize,
    layouts: impl Fn(&[Message]) -> Result<Vec<Layout>, DataError>,
) -> Result<Option<Vec<Layout>>, DataError> {
    let system = usize::from(messages.first().is_some_and(|m| m.role == Role::System));
    let later_exchanges: Vec<usize> = (system + 1..messages.len())
        .filter(|&i| messages[i].role == Role::User && messages[i - 1].role == Role::Assistant)
        .collect();
    let (mut low, mut high) = (0, later_exchanges.len());
    let mut best = None;
    while low < high {
        let middle = (low + high) / 2;
        let kept = [&messages[..system], &messages[later_exchanges[middle]..]].concat();
        let found = layouts(&kept)?;
        let fits = fit(&found, max_len);
        if fits {
            high = middle;
        } else {
            low = middle + 1;
        }
        if fits || low == later_exchanges.len() {
            best = Some(found);
        }
    }
    Ok(best)
}

/// An assistant's turn in the rendered text, in bytes.
struct Turn {
    /// After the generation prompt.
    start: usize,
    /// After the answer itself.
    content_end: usize,
    /// After what the template writes to close the turn.
    end: usize,
}

/// A conversation before it is cut.
struct Layout {
    tokens: Tokens,
    trained: Vec<bool>,
    /// Tokens of the last prompt's text.
    cuttable: Range<usize>,
}

impl Layout {
    /// Marks one turn, up to and including its end-of-turn token; the last turn gets one if the template has none.
    fn mark(&mut self, tokenizer: &Tokenizer, turn: &Turn, start: usize, is_last: bool) {
        let offsets = &self.tokens.offsets;
        let end = match is_last {
            true => offsets.len(),
            false => offsets.partition_point(|&(from, _)| from < turn.end),
        };
        let content_end =
            offsets.partition_point(|&(from, _)| from < turn.content_end).clamp(start, end.max(start));
        let closing = self.tokens.ids.get(content_end..end).unwrap_or_default();
        let closed = closing.iter().position(|&id| tokenizer.is_special(id));
        if closed.is_none() && is_last {
            self.tokens.ids.truncate(content_end);
            self.tokens.offsets.truncate(content_end);
            self.tokens.ids.extend(tokenizer.eos_ids().first());
            self.tokens.offsets.push((turn.content_end, turn.content_end));
            self.trained.resize(self.tokens.ids.len(), false);
        }
        let trained_end = match closed {
            Some(at) => content_end + at + 1,
            None => content_end + usize::from(is_last),
        };
        if let Some(flags) = self.trained.get_mut(start..trained_end) {
            flags.fill(true);
        }
    }

    fn find_cuttable(&self, messages: &[Message], before: &str, fixed_ends: (usize, usize)) -> Range<usize> {
        let Some(prompt) = messages.iter().rev().find(|m| m.role == Role::User) else { return 0..0 };
        let content = prompt.content.trim();
        let Some(at) = before.rfind(content) else { return 0..0 };
        let trimmed = prompt.content.len() - prompt.content.trim_start().len();
        let start = at + fixed_ends.0.saturating_sub(trimmed);
        let end = (at + content.len()).saturating_sub(fixed_ends.1);
        let offsets = &self.tokens.offsets;
        let first = offsets.partition_point(|&(from, _)| from < start);
        let last = offsets.partition_point(|&(_, to)| to <= end);
        first..last.max(first)
    }

    fn len(&self) -> usize {
        self.tokens.ids.len()
    }

    /// Tokens before the first one that is trained.
    fn prompt(&self) -> usize {
        self.trained.iter().position(|&t| t).unwrap_or(self.len())
    }

    /// Shares `max_len` between the prompt's text (at least a quarter of what the template leaves) and an answer of `longest`
    /// tokens.
    fn cut(mut self, max_len: usize, longest: usize) -> Result<Self, DataError> {
        let length = self.len();
        let prompt = self.prompt();
        let cuttable = self.cuttable.start.min(prompt)..self.cuttable.end.min(prompt);
        let fixed = prompt - cuttable.len();
        let room = max_len.saturating_sub(fixed);
        if room == 0 {
            return Err(DataError::NoRoom { max_len, overhead: fixed });
        }
        let least_prompt = cuttable.len().min(room / 4);
        let answer = longest.min(room - least_prompt).max(1);
        let mut first_kept = cuttable.end - cuttable.len().min(room - answer);
        while first_kept < cuttable.end && first_kept > 0 && self.splits_character(first_kept) {
            first_kept += 1;
        }
        let end = prompt + answer.min(length - prompt);
        self.tokens.ids.truncate(end);
        self.trained.truncate(end);
        self.tokens.ids.drain(cuttable.start..first_kept);
        self.trained.drain(cuttable.start..first_kept);
        Ok(self)
    }

    /// Whether the token shares a character with the one before.
    fn splits_character(&self, token: usize) -> bool {
        match (self.tokens.offsets.get(token - 1), self.tokens.offsets.get(token)) {
            (Some(&(_, end)), Some(&(start, _))) => start < end,
            _ => false,
        }
    }

    /// `length`: tokens before anything was cut.
    fn finish(self, length: usize) -> Result<Encoded, DataError> {
        let cut_tokens = length.saturating_sub(self.tokens.ids.len());
        let encoded =
            Encoded { ids: self.tokens.ids, trained: self.trained, cut_tokens, ..Encoded::default() };
        if encoded.trained_tokens() == 0 { Err(DataError::AnswerNotRendered) } else { Ok(encoded) }
    }
}
