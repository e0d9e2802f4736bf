//! Which rows are computed together, epoch by epoch: a seeded order, grouped by length or packed. Every row once.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::token_rows::TokenRows;

/// How an epoch is to be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Rows of a micro-batch; with packing, bins of a micro-batch.
    pub batch_size: usize,
    /// Fills bins of `max_seq_length` tokens with several rows.
    pub packing: bool,
    /// Tokens of a bin.
    pub max_seq_length: usize,
    /// Puts rows of similar length into the same micro-batch; without effect under packing.
    pub group_by_length: bool,
    /// Seed of the run.
    pub seed: u64,
    /// The epoch, from 0; each has its own order.
    pub epoch: u64,
}

/// Rows that are sorted by length together are this many micro-batches (transformers' `LengthGroupedSampler`).
const MEGABATCH: usize = 50;
/// Rows that are packed together: enough to fill bins well, few enough that epochs differ.
const PACKING_WINDOW: usize = 4096;

/// The micro-batches of an epoch, each a list of row numbers.
pub fn plan_epoch(rows: &TokenRows, options: &PlanOptions) -> Vec<Vec<usize>> {
    let lengths: Vec<usize> = (0..rows.len()).map(|i| rows.length(i)).collect();
    plan(&lengths, options)
}

/// Like [`plan_epoch`], from the lengths alone.
pub(crate) fn plan(lengths: &[usize], options: &PlanOptions) -> Vec<Vec<usize>> {
    let batch_size = options.batch_size.max(1);
    let mut rng = rng(options.seed, 1 + options.epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    shuffle(&mut order, &mut rng);
    if options.packing {
        let mut bins: Vec<Vec<usize>> = order
            .chunks(PACKING_WINDOW)
            .flat_map(|window| pack(window, lengths, options.max_seq_length))
            .collect();
        shuffle(&mut bins, &mut rng);
        return bins.chunks(batch_size).map(<[_]>::concat).collect();
    }
    if options.group_by_length {
        group_by_length(&mut order, lengths, batch_size);
    }
    order.chunks(batch_size).map(<[_]>::to_vec).collect()
}

/// Sorts within megabatches, longest first, and begins with the longest row of all, so that too little memory shows at
/// the first step.
fn group_by_length(order: &mut [usize], lengths: &[usize], batch_size: usize) {
    let megabatch = (order.len() / (batch_size * 4)).clamp(1, MEGABATCH) * batch_size;
    for rows in order.chunks_mut(megabatch) {
        rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    }
    let firsts = (0..order.len()).step_by(megabatch);
    if let Some(longest) = firsts.max_by_key(|&i| (lengths[order[i]], std::cmp::Reverse(i))) {
        order.swap(0, longest);
    }
}

/// Best fit, longest first: each row goes into the fullest bin that still has room for it. A row longer than a bin gets
/// one of its own.
fn pack(window: &[usize], lengths: &[usize], bin_size: usize) -> Vec<Vec<usize>> {
    let mut rows = window.to_vec();
    rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for row in rows {
        let length = lengths[row];
        let found = by_room.range(length..).next().map(|(&room, _)| room);
        let (bin, room) = match found.and_then(|room| Some((by_room.get_mut(&room)?.pop()?, room))) {
            Some((bin, room)) => {
                if by_room.get(&room).is_some_and(Vec::is_empty) {
                    by_room.remove(&room);
                }
                (bin, room)
            }
            None => {
                bins.push(Vec::new());
                (bins.len() - 1, bin_size)
            }
        };
        bins[bin].push(row);
        by_room.entry(room.saturating_sub(length)).or_default().push(bin);
    }
    bins
}

/// An independent stream of random numbers for each use of a run's seed: 0 for the split, 1 + n for epoch n.
pub(crate) fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Fisher and Yates' shuffle, spelled out so that a seed gives the same order in every version.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        items.swap(i, j as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(
        packing: bool,
        group_by_length: bool,
        batch_size: usize,
        seed: u64,
        epoch: u64,
    ) -> PlanOptions {
        PlanOptions { batch_size, packing, max_seq_length: 64, group_by_length, seed, epoch }
    }

    proptest! {
        #[test]
        fn every_row_comes_once_an_epoch(
            lengths in prop::collection::vec(1usize..=64, 0..300),
            packing: bool, grouped: bool, batch_size in 1usize..9, seed: u64, epoch in 0u64..5,
        ) {
            let options = options(packing, grouped, batch_size, seed, epoch);
            let batches = plan(&lengths, &options);
            let mut rows = batches.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>(), "nothing is lost or repeated");
            prop_assert_eq!(&batches, &plan(&lengths, &options), "the same seed gives the same plan");
            for batch in &batches {
                let tokens: usize = batch.iter().map(|&row| lengths[row]).sum();
                prop_assert!(!batch.is_empty(), "no micro-batch is empty");
                prop_assert!(packing || batch.len() <= batch_size, "at most batch_size rows");
                prop_assert!(!packing || tokens <= batch_size * 64, "at most batch_size bins of max_seq_length");
            }
        }

        #[test]
        fn bins_are_never_over_the_limit(lengths in prop::collection::vec(1usize..=64, 1..300), seed: u64) {
            let bins = plan(&lengths, &options(true, false, 1, seed, 0));
            let tokens = |bin: &Vec<usize>| bin.iter().map(|&row| lengths[row]).sum::<usize>();
            prop_assert!(bins.iter().all(|bin| tokens(bin) <= 64), "a bin holds at most max_seq_length tokens");
            let half_empty = bins.iter().filter(|bin| tokens(bin) <= 32).count();
            prop_assert!(half_empty <= 1, "two half-empty bins would have been one");
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let lengths: Vec<usize> = (0..200).map(|i| 1 + i % 60).collect();
        for packing in [false, true] {
            let first = plan(&lengths, &options(packing, true, 2, 7, 0));
            assert_ne!(
                first,
                plan(&lengths, &options(packing, true, 2, 7, 1)),
                "each epoch has its own order"
            );
            assert_ne!(
                first,
                plan(&lengths, &options(packing, true, 2, 8, 0)),
                "each seed has its own order"
            );
        }
    }

    #[test]
    fn grouping_puts_similar_lengths_together_and_the_longest_first() {
        let lengths: Vec<usize> = (0..1000).map(|i| 1 + (i * 37) % 997).collect();
        let spread = |grouped| -> usize {
            let batches = plan(&lengths, &options(false, grouped, 4, 1, 0));
            let of = |batch: &Vec<usize>| {
                let lengths = batch.iter().map(|&row| lengths[row]);
                lengths.clone().max().unwrap() - lengths.min().unwrap()
            };
            batches.iter().map(of).sum()
        };
        assert!(spread(true) * 4 < spread(false), "rows of a micro-batch are of similar length");
        let first = plan(&lengths, &options(false, true, 4, 1, 0))[0][0];
        assert_eq!(lengths[first], *lengths.iter().max().unwrap(), "the longest row comes first");
    }

    #[test]
    fn a_row_longer_than_a_bin_has_one_of_its_own() {
        let bins = plan(&[100, 10, 10], &options(true, false, 1, 0, 0));
        assert!(bins.contains(&vec![0]), "it is neither lost nor mixed with others");
    }
}
