//! The next token of rows of logits that are on the card: only its number comes back.

use candle_core::{DType, Result, Tensor, bail};

use super::card::{Arg, Card, Grid, Source, numbers};

/// The largest vocabulary: shares of all its tokens sum to a whole number of 64 bits.
const VOCAB: usize = 1 << 19;

/// Threads of a block, which has a row.
const THREADS: u32 = 1024;

/// What a kernel gives where there is no token.
const NONE: u32 = u32::MAX;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choosing {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Keep this many of the likeliest tokens, 0 all.
    pub top_k: usize,
    /// Keep the likeliest tokens whose probabilities sum to this, 1 all.
    pub top_p: f64,
    /// Divides or multiplies logits of tokens that were seen.
    pub repetition_penalty: f32,
}

/// What is a row's own.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// Tokens that the penalty is on.
    pub seen: &'a [u32],
    /// 53 random bits.
    pub random: u64,
}

/// The next token of each row of `[rows, vocab]` f32 logits on a card; none of a row that has a number that is not finite. Of equal
/// tokens the first is the likelier one; what is drawn from is in the order of the vocabulary.
///
/// # Errors
/// There are more or fewer rows than logits, or the vocabulary is empty or too large.
pub fn choose_on_card(logits: &Tensor, how: Choosing, rows: &[Chosen<'_>]) -> Result<Vec<Option<u32>>> {
    let (count, vocab) = logits.dims2()?;
    if logits.dtype() != DType::F32 || count != rows.len() || !(1..=VOCAB).contains(&vocab) {
        bail!("{} tokens cannot be chosen by {:?} of {:?}", rows.len(), logits.shape(), logits.dtype());
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let card = Card::of(logits)?;
    let logits = logits.contiguous()?;
    let penalized = how.repetition_penalty != 1.0 && rows.iter().any(|row| !row.seen.is_empty());
    let work = if penalized { Some(card.floats(count * vocab)?) } else { None };
    let seen: Vec<u32> = match penalized {
        true => rows.iter().flat_map(|row| row.seen).copied().collect(),
        // No memory is of no length.
        false => vec![0],
    };
    let mut end = 0;
    let ends: Vec<i32> = rows
        .iter()
        .map(|row| {
            end += row.seen.len();
            end as i32
        })
        .collect();
    let random: Vec<u64> = rows.iter().map(|row| row.random).collect();
    let (seen, ends, random) = (card.upload(&seen)?, card.upload(&ends)?, card.upload(&random)?);
    let chosen = card.0.alloc_zeros::<u32>(count)?;
    let args = [
        numbers(&logits)?.into(),
        Arg::At(work.as_ref().map_or(0, |work| card.address(work))),
        Arg::At(card.address(&seen)),
        Arg::At(card.address(&ends)),
        Arg::At(card.address(&random)),
        Arg::At(card.address(&chosen)),
        vocab.into(),
        how.repetition_penalty.into(),
        // Not infinite, by which the largest, which is measured from itself, must not be multiplied.
        Arg::Real(how.temperature.recip().min(f64::from(f32::MAX)) as f32),
        (how.temperature == 0.0).into(),
        how.top_k.min(vocab).into(),
        Arg::Seed(fraction(how.top_p)),
    ];
    card.start(Source::Sample, "choose", Grid::each(count, THREADS), &args)?;
    let chosen = card.0.clone_dtoh(&chosen)?;
    Ok(chosen.into_iter().map(|id| (id != NONE).then_some(id)).collect())
}

/// A part of all in units of 2⁻⁶⁴; all of them is 0.
fn fraction(part: f64) -> u64 {
    const ALL: f64 = 18_446_744_073_709_551_616.0;
    if part < 1.0 { ((part * ALL) as u64).max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_numbers_and_none_becomes_all() {
        let parts = [1.0, 2.0, 0.5, 0.25, 1e-30].map(fraction);
        assert_eq!(parts, [0, 0, 1 << 63, 1 << 62, 1]);
        assert!(fraction(1.0 - f64::EPSILON) > u64::MAX - (1 << 13), "nearly all is not all");
    }
}
