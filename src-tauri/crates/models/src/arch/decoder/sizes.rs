//! What a decoder takes of a card, and how many of its layers fit there.

use candle_core::DType;

use super::{Description, FeedForward, NormKind};
use crate::weights::{Quantise, Weights};

/// What libraries, kernels and a few rows of logits take beside the model: 320 MiB.
const FIXED: u64 = 320 << 20;

/// Sizes of a decoder as it is loaded, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Weights of each layer.
    pub layers: Vec<u64>,
    /// Keys and values of a token in one layer.
    pub cache: u64,
    /// The last norm and the head, wherever the layers before are.
    pub head: u64,
    /// The embeddings, where they are a table of their own beside the layers.
    pub embeddings: u64,
    /// What computing takes for each token that is computed at once.
    pub work: u64,
    /// What it takes whatever their number.
    pub fixed: u64,
}

impl Sizes {
    /// How many of the first layers a card has no room for that has so much free, where `cached` tokens are remembered and `at_once`
    /// computed together. None where not even the last layer and the head fit.
    ///
    /// The last layers are where the head is, so that hidden states change places once, and what comes from the card is what is chosen.
    pub fn layers_left(&self, free: u64, cached: usize, at_once: usize) -> Option<usize> {
        let (cached, at_once) = (cached as u64, at_once as u64);
        let taken = self.fixed.saturating_add(self.work.saturating_mul(at_once)).saturating_add(self.head);
        let mut room = free.checked_sub(taken)?;
        // A cache grows by half at a time.
        let cache = self.cache.saturating_mul(cached + cached / 2);
        let of = |layer: &u64| layer.saturating_add(cache);
        let all = self.layers.iter().map(of).fold(self.embeddings, u64::saturating_add);
        if all <= room {
            return Some(0);
        }
        let mut left = self.layers.len();
        for layer in self.layers.iter().rev() {
            let Some(rest) = room.checked_sub(of(layer)) else { break };
            (room, left) = (rest, left - 1);
        }
        // Without room for the embeddings the first layer is beside them.
        (left < self.layers.len()).then_some(left.max(1))
    }

    /// Those of the model that is described, from the headers of its files.
    pub(in crate::arch) fn new(description: &Description, weights: &Weights) -> Self {
        let names = description.names;
        let wide = |n: usize| n as u64;
        let linear = |name: &str| {
            description
                .linears
                .iter()
                .any(|l| name.strip_suffix(".weight").is_some_and(|path| path.ends_with(l.path)))
        };
        let layer = |index: usize| weights.loaded_bytes(&format!("{}.{index}.", names.layers), linear);
        let value = wide(weights.dtype().size_in_bytes());
        let table = wide(description.vocab_size) * wide(description.hidden_size) * value;
        let norms = if description.norm.kind == NormKind::Layer { 8 } else { 4 };
        let bias = if description.head_bias { wide(description.vocab_size) * value } else { 0 };
        let embeddings = if description.tied || weights.is_quantised() { 0 } else { table };
        let widened = description.linears.iter().map(|l| wide(l.inputs) * wide(l.outputs) * value).max();
        // A matrix that is computed with before the one before is given back.
        let widened = if weights.is_quantised() { 2 * widened.unwrap_or(0) } else { 0 };
        Sizes {
            layers: (0..description.layers.len()).map(layer).collect(),
            cache: description.cached_bytes(weights.dtype()),
            head: table + bias + norms * wide(description.hidden_size),
            embeddings,
            work: description.work_bytes(weights.dtype()),
            fixed: FIXED + widened,
        }
    }
}

impl Description {
    /// Keys and values of a token in one layer.
    fn cached_bytes(&self, dtype: DType) -> u64 {
        (2 * self.heads.keys * self.heads.dim * dtype.size_in_bytes()) as u64
    }

    /// What a layer holds of a token while it is computed: the stream before, between and after in f32; queries, keys and values as they
    /// come and made ready, what attention mixes, both halves of the feed-forward part and their product.
    pub(super) fn work_bytes(&self, dtype: DType) -> u64 {
        let heads = (3 * self.heads.queries + 4 * self.heads.keys) * self.heads.dim;
        let middle = match self.feed_forward {
            FeedForward::Experts(experts) => experts.intermediate_size,
            FeedForward::Gated(_) | FeedForward::Plain(_) => {
                self.linears.last().map_or(0, |down| down.inputs)
            }
        };
        let narrow = (heads + 3 * middle + 2 * self.hidden_size) * dtype.size_in_bytes();
        (narrow + 16 * self.hidden_size + 4 * self.heads.queries) as u64
    }
}

/// Bytes of so many values in rows of `columns`, kept as that.
pub(crate) fn quantised_bytes(how: Quantise, values: u64, columns: u64) -> u64 {
    const BLOCK: u64 = 64;
    match how.codes {
        kernels::Codes::Int8 => values + 4 * (values / columns.max(1)),
        kernels::Codes::Nf4 | kernels::Codes::Fp4 => {
            let blocks = values.div_ceil(BLOCK);
            values.div_ceil(2) + if how.nested { blocks + blocks.div_ceil(64) } else { 4 * blocks }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(embeddings: u64) -> Sizes {
        Sizes { layers: vec![100; 4], cache: 2, head: 50, embeddings, work: 3, fixed: 20 }
    }

    #[test]
    fn as_many_layers_as_fit_are_the_last_ones() {
        // 50 of the head, 20, 3 · 10 of work, and 100 + 2 · 15 of each layer.
        let cases = [
            (0, 0, None),
            (99, 0, None),
            (100, 0, None),
            (229, 0, None),
            (230, 0, Some(3)),
            (359, 0, Some(3)),
            (360, 0, Some(2)),
            (490, 0, Some(1)),
            (619, 0, Some(1)),
            (620, 0, Some(0)),
            (u64::MAX, 0, Some(0)),
            // Room for all layers, and none for the embeddings.
            (620, 40, Some(1)),
            (659, 40, Some(1)),
            (660, 40, Some(0)),
            (u64::MAX, u64::MAX, Some(1)),
        ];
        for (free, embeddings, want) in cases {
            assert_eq!(sizes(embeddings).layers_left(free, 10, 10), want, "{free} free, {embeddings}");
        }
    }

    #[test]
    fn longer_texts_leave_room_for_fewer_layers() {
        let left = [0, 100, 400, 1000].map(|cached| sizes(0).layers_left(1000, cached, 10));
        assert_eq!(left, [Some(0), Some(2), None, None]);
        assert_eq!(sizes(0).layers_left(1000, 0, 300), None, "what is computed at once takes its part");
        let uneven = Sizes { layers: vec![1, 400, 10, 10], cache: 0, ..sizes(0) };
        assert_eq!(
            uneven.layers_left(150, 0, 10),
            Some(2),
            "a layer that fits behind one that does not is left"
        );
    }

    #[test]
    fn codes_take_the_bytes_that_are_counted() {
        for (codes, nested) in [
            (kernels::Codes::Nf4, false),
            (kernels::Codes::Nf4, true),
            (kernels::Codes::Fp4, false),
            (kernels::Codes::Int8, false),
        ] {
            let (rows, columns) = (70, 128);
            let made = kernels::Quantised::new(codes, nested, (rows, columns), &vec![0.5; rows * columns]);
            let counted = quantised_bytes(
                Quantise { codes, nested, bf16: true },
                (rows * columns) as u64,
                columns as u64,
            );
            let bytes = made.unwrap().bytes() as u64;
            assert!(counted.abs_diff(bytes) <= 8, "{codes:?}, nested {nested}: {counted}, not {bytes}");
        }
    }
}
