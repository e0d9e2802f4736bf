//! What the model is given: whole sequences laid end to end, without a single padding token.

use crate::Encoded;

/// The target of a position that the loss does not count.
pub const IGNORED: u32 = u32::MAX;

/// Sequences of one micro-batch, laid end to end.
///
/// Row `i` of every tensor made from it is token `i`. Sequences do not see each other: attention is causal within
/// each of `lengths`, and positions start at 0 in each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// The token to predict at each position (its successor in the sequence) or [`IGNORED`], `[tokens]`.
    pub targets: Vec<u32>,
    /// Length of each sequence; sums to `ids.len()`.
    pub lengths: Vec<usize>,
    /// What an encoder-decoder reads, `[source tokens]`; `ids` is what its decoder begins with and has written so far.
    /// Empty for other kinds of models.
    pub source: Vec<u32>,
    /// Length of each source; sums to `source.len()`. Source `i` belongs to sequence `i`.
    pub source_lengths: Vec<usize>,
    /// The segment of each token where a model points at answers, `[tokens]`: 0 for the question, 1 for the text. Empty for
    /// other kinds of models.
    pub token_types: Vec<u32>,
    /// Where a model points at answers: first and last token of each sequence's answer, counted within the sequence.
    pub spans: Vec<(u32, u32)>,
    /// Where answers are compared: the log-likelihood that the base model gives each sequence's answer. Sequences come in pairs
    /// then, the better one first. Empty elsewhere.
    pub reference: Vec<f32>,
}

impl Batch {
    /// Appends a row, whatever kind of model it was encoded for; of two answers to compare, both, the better one first.
    pub fn add(&mut self, row: &Encoded) {
        match row.span {
            Some(span) if !row.ids.is_empty() => {
                self.targets.extend(std::iter::repeat_n(IGNORED, row.ids.len()));
                self.ids.extend_from_slice(&row.ids);
                self.lengths.push(row.ids.len());
                self.token_types.extend(row.token_types.iter().map(|&segment| u32::from(segment)));
                self.spans.push(span);
            }
            None if !row.source.is_empty() => self.push_pair(&row.source, &row.ids, &row.trained),
            _ => self.push(&row.ids, &row.trained),
        }
        if let Some(rejected) = &row.rejected {
            self.push(&rejected.ids, &rejected.trained);
        }
    }

    /// Appends a source and its target, which begins with the token that the decoder starts from: at each position the
    /// decoder sees the target up to there and is to predict the next token, so the last token is seen by nobody.
    pub fn push_pair(&mut self, source: &[u32], target: &[u32], trained: &[bool]) {
        debug_assert_eq!(target.len(), trained.len(), "one flag a token");
        let Some((_, seen)) = target.split_last().filter(|(_, seen)| !seen.is_empty()) else { return };
        let next = target.iter().zip(trained).skip(1);
        self.targets.extend(next.map(|(&id, &counts)| if counts { id } else { IGNORED }));
        self.ids.extend_from_slice(seen);
        self.lengths.push(seen.len());
        self.source.extend_from_slice(source);
        self.source_lengths.push(source.len());
    }

    /// Tokens that are computed, sources included.
    pub fn tokens(&self) -> usize {
        self.ids.len() + self.source.len()
    }

    /// Appends a sequence; `trained[i]` says whether the loss counts the prediction *of* token `i`.
    pub fn push(&mut self, ids: &[u32], trained: &[bool]) {
        debug_assert_eq!(ids.len(), trained.len(), "one flag a token");
        if ids.is_empty() {
            return;
        }
        let next = ids.iter().zip(trained).skip(1);
        self.targets.extend(next.map(|(&id, &counts)| if counts { id } else { IGNORED }));
        self.targets.push(IGNORED);
        self.ids.extend_from_slice(ids);
        self.lengths.push(ids.len());
    }

    /// How many positions the loss counts: predicted tokens, or where a model points at answers the two ends of each.
    pub fn trained_tokens(&self) -> usize {
        self.targets.iter().filter(|&&t| t != IGNORED).count() + 2 * self.spans.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_sees_its_target_shifted_by_the_start_token() {
        let mut batch = Batch::default();
        batch.push_pair(&[7, 8, 9], &[0, 5, 6, 1], &[false, true, false, true]);
        batch.push_pair(&[7], &[0, 1], &[false, true]);
        assert_eq!(
            (batch.ids.as_slice(), batch.targets.as_slice()),
            ([0, 5, 6, 0].as_slice(), [5, IGNORED, 1, 1].as_slice())
        );
        assert_eq!(
            (batch.lengths.as_slice(), batch.source_lengths.as_slice()),
            ([3, 1].as_slice(), [3, 1].as_slice())
        );
        assert_eq!((batch.source.as_slice(), batch.tokens()), ([7, 8, 9, 7].as_slice(), 8));
    }

    #[test]
    fn a_row_is_laid_out_by_what_it_was_encoded_for() {
        let mut windows = Batch::default();
        let window = Encoded {
            ids: vec![1, 2, 3],
            trained: vec![false; 3],
            token_types: vec![0, 0, 1],
            span: Some((2, 2)),
            ..Encoded::default()
        };
        windows.add(&window);
        assert_eq!(
            (windows.token_types.as_slice(), windows.spans.as_slice()),
            ([0, 0, 1].as_slice(), [(2, 2)].as_slice())
        );
        assert_eq!(
            (windows.targets.as_slice(), windows.lengths.as_slice()),
            ([IGNORED; 3].as_slice(), [3].as_slice())
        );
        let mut pairs = Batch::default();
        pairs.add(&Encoded {
            ids: vec![0, 4],
            trained: vec![false, true],
            source: vec![5],
            ..Encoded::default()
        });
        assert_eq!((pairs.ids.as_slice(), pairs.source.as_slice()), ([0].as_slice(), [5].as_slice()));
    }

    #[test]
    fn targets_are_the_next_token_within_a_sequence() {
        let mut batch = Batch::default();
        batch.push(&[1, 2, 3], &[false, false, true]);
        batch.push(&[4, 5], &[true, true]);
        assert_eq!(
            batch.targets,
            [IGNORED, 3, IGNORED, 5, IGNORED],
            "a target never crosses into the next sequence"
        );
        assert_eq!((batch.lengths.as_slice(), batch.trained_tokens()), ([3, 2].as_slice(), 2));
    }
}
