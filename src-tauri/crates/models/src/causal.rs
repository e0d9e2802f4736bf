//! What training, evaluation and chat need of a decoder-only language model: one definition serves all three.

use candle_core::{Result, Tensor};
use kernels::KeyValueCache;

use crate::Model;

/// Lengths of the sequences that lie end to end in a `[tokens, …]` tensor, and the position of each token.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// Length of each; sums to the number of tokens.
    pub lengths: Vec<usize>,
    /// Position of the first token of each: 0 in training, the length of the cache in decoding.
    pub offset: usize,
    /// How long a sequence that is computed piece by piece will be at the end of its last piece, as far as that is known.
    pub reach: usize,
}

impl Sequences {
    /// Position of every token.
    pub fn positions(&self) -> Vec<u32> {
        self.lengths.iter().flat_map(|&length| self.offset..self.offset + length).map(|p| p as u32).collect()
    }

    /// Sequences that all start at position 0.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self { lengths, offset: 0, reach: 0 }
    }

    /// One sequence of `length` tokens that goes on after `offset` cached ones.
    pub fn continued(length: usize, offset: usize) -> Self {
        Self { lengths: vec![length], offset, reach: offset + length }
    }

    /// The same as a piece of a sequence that will be `reach` tokens long.
    pub fn reaching(self, reach: usize) -> Self {
        Self { reach, ..self }
    }

    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }
}

/// How one pass through the layers is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether the adapter takes part; without it the base model answers.
    pub adapter: bool,
    /// Whether it is the second adapter that takes part, which was shelved before the one that is trained was attached.
    pub second: bool,
    /// Dropout on the adapter's input, drawn from this seed: the same seed gives the same masks, so that a layer can
    /// be computed again in the backward pass. `None` outside training.
    pub dropout_seed: Option<u64>,
}

impl Pass {
    /// Evaluation and chat: adapter on, no dropout.
    pub const EVAL: Pass = Pass { adapter: true, second: false, dropout_seed: None };
    /// The base model alone.
    pub const BASE: Pass = Pass { adapter: false, second: false, dropout_seed: None };
    /// The base model with the second adapter.
    pub const SECOND: Pass = Pass { adapter: true, second: true, dropout_seed: None };

    /// Of an adapter's part and the second one's, that which takes part.
    pub(crate) fn of<'a, T>(self, first: &'a Option<T>, second: &'a Option<T>) -> Option<&'a T> {
        if self.second { second } else { first }.as_ref().filter(|_| self.adapter)
    }
}

/// Keys and values of the tokens one layer has already seen, with room for more, so that a token costs no copy of the
/// ones before it. A layer fills one of the two forms.
#[derive(Debug, Default, Clone)]
pub struct LayerCache {
    tensors: TensorCache,
    fused: KeyValueCache,
}

impl LayerCache {
    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.tensors.length.max(self.fused.len())
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.tensors.length = self.tensors.length.min(length);
        self.fused.truncate(length);
    }

    /// Adds the keys and values of the next tokens, `[kv_heads, tokens, head_dim]` each, and gives those of all.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        self.tensors.append(keys, values)
    }

    /// The same in memory of its own, so that both can go on.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn copy(&self) -> Result<Self> {
        let room = self.tensors.room.as_ref();
        let room = room.map(|(keys, values)| Ok::<_, candle_core::Error>((keys.copy()?, values.copy()?)));
        let tensors = TensorCache { room: room.transpose()?, length: self.tensors.length };
        Ok(Self { tensors, fused: self.fused.clone() })
    }

    /// The form that the fused kernels fill.
    pub fn fused(&mut self) -> &mut KeyValueCache {
        &mut self.fused
    }
}

/// Keys and values as the reference takes them.
#[derive(Debug, Default, Clone)]
struct TensorCache {
    /// `[kv_heads, room, head_dim]` each.
    room: Option<(Tensor, Tensor)>,
    length: usize,
}

impl TensorCache {
    /// Room is added in steps of this many tokens, or by half of what there is.
    const STEP: usize = 256;

    fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let (heads, tokens, dim) = keys.dims3()?;
        let needed = self.length + tokens;
        let (all_keys, all_values) = match self.room.take() {
            Some((k, v)) if k.dim(1)? >= needed => (k, v),
            old => {
                let room = (needed + needed / 2).next_multiple_of(Self::STEP);
                let grown = |old: Option<&Tensor>, like: &Tensor| -> Result<Tensor> {
                    let new = Tensor::zeros((heads, room, dim), like.dtype(), like.device())?;
                    if let Some(old) = old.filter(|_| self.length > 0) {
                        new.slice_set(&old.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
                    }
                    Ok(new)
                };
                (grown(old.as_ref().map(|o| &o.0), keys)?, grown(old.as_ref().map(|o| &o.1), values)?)
            }
        };
        all_keys.slice_set(&keys.detach().contiguous()?, 1, self.length)?;
        all_values.slice_set(&values.detach().contiguous()?, 1, self.length)?;
        self.length = needed;
        let seen = (all_keys.narrow(1, 0, needed)?, all_values.narrow(1, 0, needed)?);
        self.room = Some((all_keys, all_values));
        Ok(seen)
    }
}

/// Tokens of a prompt that are computed at a time where memory is not known to allow more.
pub const AT_ONCE: usize = 512;

/// A decoder-only language model, layer by layer, so that the caller decides what to keep for the backward pass.
///
/// Hidden states are `[tokens, hidden]`, sequences end to end as [`Sequences`] says.
pub trait CausalLm: Model {
    /// Token embeddings: `[tokens]` u32 → `[tokens, hidden]`.
    fn embed(&self, ids: &Tensor) -> Result<Tensor>;

    /// One decoder layer: `[tokens, hidden]` → `[tokens, hidden]`. With a cache there is one sequence, which goes on
    /// after the cached tokens.
    fn layer(
        &self,
        index: usize,
        hidden: &Tensor,
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor>;

    /// One decoder layer over the next tokens of several sequences, as many as `lengths` says, each of which goes on after a
    /// cache of its own: `[tokens, hidden]` → the same. What is computed of a sequence does not depend on the others.
    fn layer_of_many(
        &self,
        index: usize,
        hidden: &Tensor,
        lengths: &[usize],
        pass: Pass,
        caches: &mut [LayerCache],
    ) -> Result<Tensor> {
        each_layer(self, index, hidden, lengths, pass, caches)
    }

    /// How many tokens of a prompt are computed at a time, which bounds the memory that takes.
    fn tokens_at_once(&self) -> usize {
        AT_ONCE
    }

    /// Whether the caches of a sequence that was `before` tokens long are right for one of `now`. They are not in a model whose
    /// rotary positions differ in long sequences, where only one of the two is long.
    fn keeps_cache(&self, _before: usize, _now: usize) -> bool {
        true
    }

    /// The norm after the last layer: `[tokens, hidden]` → `[tokens, hidden]`.
    fn final_norm(&self, hidden: &Tensor) -> Result<Tensor>;

    /// The sum of `−log p(target)` over the rows of a `[tokens, hidden]` tensor that has gone through all layers and the last
    /// norm; a target of [`kernels::IGNORED`] is not counted. f32 scalar.
    fn cross_entropy(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor>;

    /// `log p(target)` of each row of such a tensor where logits are divided by `temperature`, 0 where the target is
    /// [`kernels::IGNORED`]: f32 `[tokens]`.
    fn token_log_probs_at(&self, hidden: &Tensor, targets: &[u32], temperature: f64) -> Result<Tensor>;

    /// The same of the model's own distribution.
    fn token_log_probs(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
        self.token_log_probs_at(hidden, targets, 1.0)
    }

    /// What the scalar head makes of rows of such a tensor, f32 `[rows]`: rewards with a reward model's adapter, values with a
    /// policy's.
    ///
    /// # Errors
    /// The model has no such head: [`Model::set_scored`] gives it one.
    fn score(&self, _hidden: &Tensor, _pass: Pass) -> Result<Tensor> {
        candle_core::bail!("the model has no scalar head")
    }

    /// Logits of chosen rows of a `[tokens, hidden]` tensor that has gone through all layers, f32 `[rows, vocab]`.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;
}

/// Token ids through all layers and the last norm: `[tokens]` u32 → `[tokens, hidden]`.
pub fn forward(model: &dyn CausalLm, ids: &Tensor, sequences: &Sequences, pass: Pass) -> Result<Tensor> {
    let mut hidden = model.embed(ids)?;
    for index in 0..model.info().layers {
        hidden = model.layer(index, &hidden, sequences, pass, None)?;
    }
    model.final_norm(&hidden)
}

/// [`CausalLm::layer_of_many`], one sequence after the other.
pub(crate) fn each_layer<M: CausalLm + ?Sized>(
    model: &M,
    index: usize,
    hidden: &Tensor,
    lengths: &[usize],
    pass: Pass,
    caches: &mut [LayerCache],
) -> Result<Tensor> {
    if lengths.len() != caches.len() {
        candle_core::bail!("{} caches do not go on with {lengths:?} tokens", caches.len());
    }
    let mut first = 0;
    let mut computed = Vec::with_capacity(caches.len());
    for (cache, &length) in caches.iter_mut().zip(lengths) {
        let sequences = Sequences::continued(length, cache.len());
        let own = hidden.narrow(0, first, length)?;
        computed.push(model.layer(index, &own, &sequences, pass, Some(cache))?);
        first += length;
    }
    Tensor::cat(&computed, 0)
}
