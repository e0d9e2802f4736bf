//! Which tokens may come next in a text that an encoder-decoder writes, as transformers' logits processors have it.

use data::Writing;

/// The score of a token that may not come: far below any other, and finite, since whatever is not is a damaged model.
pub(crate) const BANNED: f32 = -1e30;

/// The rules of one text.
pub(crate) struct Rules<'a> {
    /// What the model's files say.
    pub writing: &'a Writing,
    /// The most tokens, the start included.
    pub max_length: usize,
    /// Tokens that end the text.
    pub eos: &'a [u32],
}

impl Rules<'_> {
    /// Whether a text of these tokens, the start included, goes on no further.
    pub fn ends(&self, length: usize, last: u32) -> bool {
        self.eos.contains(&last) || length >= self.max_length
    }
}

impl Rules<'_> {
    /// Bans what may not follow `seen`, which begins with the decoder's start. What is forced gets 0 and all others are banned.
    pub fn apply(&self, seen: &[u32], scores: &mut [f32]) {
        self.ban_repeated(seen, scores);
        if seen.len() < self.writing.min_length {
            ban(self.eos, scores);
        }
        let forced = match (self.writing.forced_bos, self.writing.forced_eos) {
            (Some(bos), _) if seen.len() == 1 => Some(bos),
            (_, Some(eos)) if seen.len() + 1 == self.max_length => Some(eos),
            _ => None,
        };
        if let Some(forced) = forced.filter(|&id| (id as usize) < scores.len()) {
            scores.fill(BANNED);
            scores[forced as usize] = 0.0;
        }
    }

    /// A run of tokens that is in the text already does not come again (Paulus et al. 2017, arXiv:1705.04304, section 2.5).
    fn ban_repeated(&self, seen: &[u32], scores: &mut [f32]) {
        let size = self.writing.no_repeat_ngram_size;
        if size == 0 || seen.len() < size {
            return;
        }
        let (_, last) = seen.split_at(seen.len() + 1 - size);
        for run in seen.windows(size) {
            if let Some((next, before)) = run.split_last()
                && before == last
            {
                ban(&[*next], scores);
            }
        }
    }
}

fn ban(ids: &[u32], scores: &mut [f32]) {
    for &id in ids {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = BANNED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(writing: &Writing, seen: &[u32]) -> Vec<usize> {
        let mut scores = vec![-1.0; 6];
        Rules { writing, max_length: 5, eos: &[5] }.apply(seen, &mut scores);
        (0..6).filter(|&id| scores[id] > BANNED).collect()
    }

    #[test]
    fn runs_come_once() {
        let writing = Writing { no_repeat_ngram_size: 3, ..Writing::default() };
        assert_eq!(allowed(&writing, &[0, 1]), [0, 1, 2, 3, 4, 5], "too short to repeat");
        assert_eq!(allowed(&writing, &[1, 2, 3, 1, 2]), [0, 1, 2, 4, 5], "3 followed 1 2 already");
        let single = Writing { no_repeat_ngram_size: 1, ..Writing::default() };
        assert_eq!(allowed(&single, &[0, 3]), [1, 2, 4, 5], "no token twice");
    }

    #[test]
    fn the_first_and_the_last_token_are_forced_and_the_end_is_kept_off() {
        let writing =
            Writing { min_length: 3, forced_bos: Some(2), forced_eos: Some(5), ..Writing::default() };
        assert_eq!(allowed(&writing, &[0]), [2]);
        assert_eq!(allowed(&writing, &[0, 2]), [0, 1, 2, 3, 4], "too short to end");
        assert_eq!(allowed(&writing, &[0, 2, 2]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(allowed(&writing, &[0, 2, 2, 1]), [5], "the last place");
        let beyond = Writing { forced_bos: Some(99), ..Writing::default() };
        assert_eq!(allowed(&beyond, &[0]).len(), 6, "a token that there is not is not forced");
    }
}
