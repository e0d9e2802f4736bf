//! An encoder-decoder at work on one source: the source is read once, then targets grow token by token.

use candle_core::{Result, Tensor};
use models::{DecoderCache, Memory, Pass, Seq2SeqLm, Sequences};

/// Targets of one source, all of the same length, with what the model remembers of each.
pub struct Targets<'m> {
    model: &'m dyn Seq2SeqLm,
    memory: Tensor,
    source: Sequences,
    caches: Vec<DecoderCache>,
    count: usize,
    length: usize,
    pass: Pass,
}

impl<'m> Targets<'m> {
    /// Reads the source, at least one token, for one empty target; `None` once `wanted`, which is asked before every layer,
    /// says no.
    ///
    /// # Errors
    /// The model cannot compute it.
    pub fn read(
        model: &'m dyn Seq2SeqLm,
        source: &[u32],
        pass: Pass,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Self>> {
        let sequences = Sequences::new(vec![source.len()]);
        let mut hidden = model.embed_source(&Tensor::new(source, model.device())?, &sequences)?;
        for index in 0..model.encoder_layers() {
            if !wanted() {
                return Ok(None);
            }
            hidden = model.encoder_layer(index, &hidden, &sequences, pass)?;
        }
        Ok(Some(Targets {
            model,
            memory: model.encoder_end(&hidden)?,
            source: sequences,
            caches: vec![DecoderCache::new(1); model.info().layers],
            count: 1,
            length: 0,
            pass,
        }))
    }

    /// Appends a token to each target. Gives for each the logits of the token after it; `None` as in [`read`](Self::read).
    ///
    /// # Errors
    /// There are more or fewer tokens than targets, or no room for them.
    pub fn push(&mut self, ids: &[u32], wanted: &dyn Fn() -> bool) -> Result<Option<Vec<Vec<f32>>>> {
        if ids.len() != self.count {
            candle_core::bail!("{} targets do not go on with {} tokens", self.count, ids.len());
        }
        let target = Sequences { lengths: vec![1; ids.len()], offset: self.length, reach: self.length + 1 };
        let memory = Memory { hidden: &self.memory, source: &self.source };
        let mut hidden = self.model.embed_target(&Tensor::new(ids, self.model.device())?, &target)?;
        for (index, cache) in self.caches.iter_mut().enumerate() {
            if !wanted() {
                return Ok(None);
            }
            hidden = self.model.decoder_layer(index, &hidden, &memory, &target, self.pass, Some(cache))?;
        }
        self.length += 1;
        self.model.logits(&self.model.decoder_end(&hidden)?)?.to_vec2().map(Some)
    }

    /// Goes on from the targets of these places, any of them any number of times.
    ///
    /// # Errors
    /// There is no such target.
    pub fn select(&mut self, parents: &[usize]) -> Result<()> {
        for cache in &mut self.caches {
            cache.select(parents)?;
        }
        self.count = parents.len();
        Ok(())
    }
}
