//! The model with its cache: tokens in, the logits of the next one out.

use candle_core::{Result, Tensor};
use models::{AT_ONCE, CausalLm, LayerCache, Pass, Sequences};

/// Computes the tokens of one sequence in order and remembers their keys and values.
pub struct Decoder<'m> {
    model: &'m dyn CausalLm,
    caches: Vec<LayerCache>,
    /// The tokens the caches hold.
    ids: Vec<u32>,
    pass: Pass,
}

impl<'m> Decoder<'m> {
    /// A decoder that has seen nothing.
    pub fn new(model: &'m dyn CausalLm) -> Self {
        Decoder {
            model,
            caches: vec![LayerCache::default(); model.info().layers],
            ids: Vec::new(),
            pass: Pass::EVAL,
        }
    }

    /// The tokens it has seen.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Makes `ids`, at least one, the whole sequence, computing only what differs from the tokens already seen. Gives
    /// the logits of the token after them, f32 `[vocab]` where the model ends; `None` once `wanted`, which is asked before every layer, says no.
    pub fn start(&mut self, ids: &[u32], pass: Pass, wanted: &dyn Fn() -> bool) -> Result<Option<Tensor>> {
        let common = self.ids.iter().zip(ids).take_while(|(seen, new)| seen == new).count();
        // The last token is always computed, for its logits.
        let kept = pass == self.pass && self.model.keeps_cache(self.ids.len(), ids.len());
        let keep = if kept { common.min(ids.len().saturating_sub(1)) } else { 0 };
        self.pass = pass;
        self.keep(keep);
        self.extend(&ids[keep..], wanted)
    }

    /// Goes on with `ids`, at least one. Gives the logits of the token after them; `None` as in
    /// [`start`](Self::start).
    pub fn extend(&mut self, ids: &[u32], wanted: &dyn Fn() -> bool) -> Result<Option<Tensor>> {
        let reach = self.ids.len() + ids.len();
        if !self.model.keeps_cache(self.ids.len(), reach) {
            let whole = [self.ids.as_slice(), ids].concat();
            self.keep(0);
            return self.extend(&whole, wanted);
        }
        let mut last = None;
        let at_once = if ids.len() > AT_ONCE { self.model.tokens_at_once() } else { AT_ONCE };
        for chunk in ids.chunks(at_once) {
            last = self.compute(chunk, reach, wanted).inspect_err(|_| self.keep(0))?;
            if last.is_none() {
                self.keep(self.ids.len());
                return Ok(None);
            }
        }
        let Some(hidden) = last else { candle_core::bail!("there is no token to go on from") };
        let rows = hidden.dim(0)?;
        let hidden = self.model.final_norm(&hidden.narrow(0, rows - 1, 1)?)?;
        self.model.logits(&hidden)?.squeeze(0).map(Some)
    }

    /// The hidden states of the next tokens after the last layer, in a sequence that will be `reach` tokens long.
    fn compute(&mut self, ids: &[u32], reach: usize, wanted: &dyn Fn() -> bool) -> Result<Option<Tensor>> {
        let sequences = Sequences::continued(ids.len(), self.ids.len()).reaching(reach);
        let mut hidden = self.model.embed(&Tensor::new(ids, self.model.device())?)?;
        for (index, cache) in self.caches.iter_mut().enumerate() {
            if !wanted() {
                return Ok(None);
            }
            hidden = self.model.layer(index, &hidden, &sequences, self.pass, Some(cache))?;
        }
        self.ids.extend_from_slice(ids);
        Ok(Some(hidden))
    }

    /// Forgets all but the first `length` tokens: where a computation ended halfway, the layers' caches differ in length.
    fn keep(&mut self, length: usize) {
        self.ids.truncate(length);
        self.caches.iter_mut().for_each(|cache| cache.truncate(length));
    }
}
