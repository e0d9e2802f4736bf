//! What the model is given: whole sequences laid end to end, without a single padding token.

/// The target of a position that the loss does not count.
pub const IGNORED: u32 = u32::MAX;

/// Sequences of one micro-batch, laid end to end.
///
/// Row `i` of every tensor made from it is token `i`. Sequences do not see each other: attention is causal within
/// each of `lengths`, and positions start at 0 in each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// The token to predict at each position (its successor in the sequence) or [`IGNORED`], `[tokens]`.
    pub targets: Vec<u32>,
    /// Length of each sequence; sums to `ids.len()`.
    pub lengths: Vec<usize>,
}

impl Batch {
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

    /// How many positions the loss counts.
    pub fn trained_tokens(&self) -> usize {
        self.targets.iter().filter(|&&t| t != IGNORED).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
