//! Turns ids into text as they come, in whole characters only.

use crate::tokenizer::Tokenizer;

/// The text of ids that come one by one.
///
/// A token may hold part of a character, and what it decodes to may depend on the one before (a leading space), so
/// each piece is the difference of two decodings of the last few ids.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    ids: Vec<u32>,
    /// How many of `ids` have been given out; they stay as context.
    given: usize,
    /// Length of the text of those.
    given_bytes: usize,
}

/// No character takes more tokens than bytes (4), with room for tokens that decode to nothing.
const MAX_WAITING: usize = 32;

impl<'a> TextStream<'a> {
    /// Special tokens are left out.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self::with(tokenizer, true)
    }

    pub(crate) fn with(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: Vec::new(), given: 0, given_bytes: 0 }
    }

    /// Takes the next id; gives the text that is now certain, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode_with(&self.ids, self.skip_special);
        let waiting = self.ids.len() - self.given;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && waiting < MAX_WAITING {
            return None;
        }
        let piece = self.give(&text);
        (!piece.is_empty()).then_some(piece)
    }

    /// The text still held back: the replacement character of bytes that never became one.
    pub fn finish(mut self) -> String {
        let text = self.tokenizer.decode_with(&self.ids, self.skip_special);
        self.give(&text)
    }

    fn give(&mut self, text: &str) -> String {
        let piece = text.get(self.given_bytes..).unwrap_or_default().to_owned();
        // Ids without text, such as a special token, are no context for the next one: the text before them stays.
        if !piece.is_empty() {
            self.ids.drain(..self.given);
        }
        self.given = self.ids.len();
        self.given_bytes = self.tokenizer.decode_with(&self.ids, self.skip_special).len();
        piece
    }
}
