//! What training, evaluation and chat need of an encoder-decoder.

use candle_core::{Result, Tensor};

use crate::{LayerCache, Model, Pass, Sequences};

/// An encoder-decoder language model, layer by layer.
///
/// Hidden states of sources and of targets are `[tokens, hidden]`, sequences end to end; target `i` belongs to source `i`.
/// What the decoder sees of the sources, the output of [`encoder_end`](Self::encoder_end), is called the memory.
pub trait Seq2SeqLm: Model {
    /// Layers of the encoder.
    fn encoder_layers(&self) -> usize;

    /// What enters the encoder: `[tokens]` u32 → `[tokens, hidden]`.
    fn embed_source(&self, ids: &Tensor, source: &Sequences) -> Result<Tensor>;

    /// One layer of the encoder: `[tokens, hidden]` → `[tokens, hidden]`.
    fn encoder_layer(&self, index: usize, hidden: &Tensor, source: &Sequences, pass: Pass) -> Result<Tensor>;

    /// What follows the encoder's last layer: `[tokens, hidden]` → the memory, `[tokens, hidden]`.
    fn encoder_end(&self, hidden: &Tensor) -> Result<Tensor>;

    /// What enters the decoder: `[tokens]` u32 → `[tokens, hidden]`.
    fn embed_target(&self, ids: &Tensor, target: &Sequences) -> Result<Tensor>;

    /// One layer of the decoder: `[tokens, hidden]` → `[tokens, hidden]`. With a cache there is one source, whose keys and
    /// values are computed at the first call and kept, and any number of targets of one length that all go on after as many
    /// cached tokens, each after its own.
    fn decoder_layer(
        &self,
        index: usize,
        hidden: &Tensor,
        memory: &Memory<'_>,
        target: &Sequences,
        pass: Pass,
        cache: Option<&mut DecoderCache>,
    ) -> Result<Tensor>;

    /// What follows the decoder's last layer: `[tokens, hidden]` → `[tokens, hidden]`.
    fn decoder_end(&self, hidden: &Tensor) -> Result<Tensor>;

    /// The sum of `−log p(target)` over the rows of what [`decoder_end`](Self::decoder_end) gives; a target of
    /// [`kernels::IGNORED`] is not counted. f32 scalar.
    fn cross_entropy(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor>;

    /// Logits of rows of what [`decoder_end`](Self::decoder_end) gives, f32 `[rows, vocab]`.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;
}

/// The output of the encoder, and where each source is in it.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// `[tokens, hidden]`.
    pub hidden: &'a Tensor,
    /// The sources.
    pub source: &'a Sequences,
}

/// What one decoder layer has already seen: of the source, and of each target.
#[derive(Debug, Default, Clone)]
pub struct DecoderCache {
    /// One for each target.
    pub targets: Vec<LayerCache>,
    /// Keys and values of the source, `[heads, source, head_dim]` each.
    pub source: Option<(Tensor, Tensor)>,
}

impl DecoderCache {
    /// A cache for `targets` targets that have seen nothing.
    pub fn new(targets: usize) -> Self {
        Self { targets: vec![LayerCache::default(); targets], source: None }
    }

    /// Tokens that each target has seen.
    pub fn len(&self) -> usize {
        self.targets.first().map_or(0, LayerCache::len)
    }

    /// Whether none has seen any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Target `i` becomes one that has seen what `parents[i]` saw.
    ///
    /// # Errors
    /// A parent that there is none of; no memory.
    pub fn select(&mut self, parents: &[usize]) -> Result<()> {
        let mut old: Vec<Option<LayerCache>> =
            std::mem::take(&mut self.targets).into_iter().map(Some).collect();
        for (at, &parent) in parents.iter().enumerate() {
            let needed_later = parents.iter().skip(at + 1).any(|&later| later == parent);
            let found = match old.get_mut(parent) {
                Some(place) if needed_later => place.as_ref().map(LayerCache::copy).transpose()?,
                Some(place) => place.take(),
                None => None,
            };
            let Some(found) = found else { candle_core::bail!("there is no target {parent} to go on from") };
            self.targets.push(found);
        }
        Ok(())
    }
}

/// The memory of sources: `[tokens]` u32 → `[tokens, hidden]`.
///
/// # Errors
/// The model cannot compute them.
pub fn encode(model: &dyn Seq2SeqLm, ids: &Tensor, source: &Sequences, pass: Pass) -> Result<Tensor> {
    let mut hidden = model.embed_source(ids, source)?;
    for index in 0..model.encoder_layers() {
        hidden = model.encoder_layer(index, &hidden, source, pass)?;
    }
    model.encoder_end(&hidden)
}

/// Target ids through all layers of the decoder: `[tokens]` u32 → `[tokens, hidden]`.
///
/// # Errors
/// The model cannot compute them.
pub fn decode(
    model: &dyn Seq2SeqLm,
    ids: &Tensor,
    target: &Sequences,
    memory: &Memory<'_>,
    pass: Pass,
) -> Result<Tensor> {
    let mut hidden = model.embed_target(ids, target)?;
    for index in 0..model.info().layers {
        hidden = model.decoder_layer(index, &hidden, memory, target, pass, None)?;
    }
    model.decoder_end(&hidden)
}
