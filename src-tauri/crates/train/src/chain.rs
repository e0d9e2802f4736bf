//! A batch's way through a model as a chain of layers over a state of one or more tensors, the same for every kind of model:
//! so there is one way to train with and one without checkpointing.

use candle_core::{Result, Tensor};
use data::Batch;
use models::{CausalLm, Memory, Model, ModelView, Pass, Seq2SeqLm, Sequences, SpanModel};

/// What a layer takes and gives: the hidden states, and whatever else later layers need that a gradient flows through.
pub(crate) type State = Vec<Tensor>;

/// The layers that one batch goes through.
pub(crate) trait Chain {
    /// What enters the first layer; nothing in it is trained.
    fn start(&self) -> Result<State>;

    /// How many layers there are.
    fn len(&self) -> usize;

    /// One layer.
    fn layer(&self, index: usize, state: &[Tensor], pass: Pass) -> Result<State>;

    /// What the loss is computed from, from what the last layer gives.
    fn end(&self, state: &[Tensor]) -> Result<Tensor>;
}

/// The chain of a batch through a model.
pub(crate) fn chain<'a>(model: &'a dyn Model, batch: &'a Batch) -> Box<dyn Chain + 'a> {
    let sequences = Sequences::new(batch.lengths.clone());
    match model.view() {
        ModelView::Causal(model) => Box::new(CausalChain { model, batch, sequences }),
        ModelView::Seq2Seq(model) => {
            let source = Sequences::new(batch.source_lengths.clone());
            Box::new(Seq2SeqChain { model, batch, source, target: sequences })
        }
        ModelView::Span(model) => Box::new(SpanChain { model, batch, sequences }),
    }
}

fn ids(ids: &[u32], model: &dyn Model) -> Result<Tensor> {
    Tensor::from_slice(ids, ids.len(), model.device())
}

fn first(state: &[Tensor]) -> Result<&Tensor> {
    match state {
        [first, ..] => Ok(first),
        [] => candle_core::bail!("a layer was given no state"),
    }
}

/// Hidden states through a decoder-only model.
struct CausalChain<'a> {
    model: &'a dyn CausalLm,
    batch: &'a Batch,
    sequences: Sequences,
}

impl Chain for CausalChain<'_> {
    fn start(&self) -> Result<State> {
        Ok(vec![self.model.embed(&ids(&self.batch.ids, self.model)?)?.detach()])
    }

    fn len(&self) -> usize {
        self.model.info().layers
    }

    fn layer(&self, index: usize, state: &[Tensor], pass: Pass) -> Result<State> {
        Ok(vec![self.model.layer(index, first(state)?, &self.sequences, pass, None)?])
    }

    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        self.model.final_norm(first(state)?)
    }
}

/// The encoder's hidden states up to its last layer; from there on the memory and the decoder's hidden states.
struct Seq2SeqChain<'a> {
    model: &'a dyn Seq2SeqLm,
    batch: &'a Batch,
    source: Sequences,
    target: Sequences,
}

impl Chain for Seq2SeqChain<'_> {
    fn start(&self) -> Result<State> {
        let source = ids(&self.batch.source, self.model)?;
        Ok(vec![self.model.embed_source(&source, &self.source)?.detach()])
    }

    fn len(&self) -> usize {
        self.model.encoder_layers() + self.model.info().layers
    }

    fn layer(&self, index: usize, state: &[Tensor], pass: Pass) -> Result<State> {
        let encoder_layers = self.model.encoder_layers();
        let Some(index) = index.checked_sub(encoder_layers) else {
            let hidden = self.model.encoder_layer(index, first(state)?, &self.source, pass)?;
            return Ok(vec![hidden]);
        };
        let (memory, hidden) = match state {
            [memory, hidden] => (memory.clone(), hidden.clone()),
            encoded => {
                let target = ids(&self.batch.ids, self.model)?;
                let hidden = self.model.embed_target(&target, &self.target)?.detach();
                (self.model.encoder_end(first(encoded)?)?, hidden)
            }
        };
        let seen = Memory { hidden: &memory, source: &self.source };
        let hidden = self.model.decoder_layer(index, &hidden, &seen, &self.target, pass, None)?;
        Ok(vec![memory, hidden])
    }

    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        match state {
            [_, hidden] => self.model.decoder_end(hidden),
            _ => candle_core::bail!("the decoder has no layer"),
        }
    }
}

/// Hidden states through an encoder that points at answers.
struct SpanChain<'a> {
    model: &'a dyn SpanModel,
    batch: &'a Batch,
    sequences: Sequences,
}

impl Chain for SpanChain<'_> {
    fn start(&self) -> Result<State> {
        let types = ids(&self.batch.token_types, self.model)?;
        Ok(vec![self.model.embed(&ids(&self.batch.ids, self.model)?, &types, &self.sequences)?.detach()])
    }

    fn len(&self) -> usize {
        self.model.info().layers
    }

    fn layer(&self, index: usize, state: &[Tensor], pass: Pass) -> Result<State> {
        Ok(vec![self.model.layer(index, first(state)?, &self.sequences, pass)?])
    }

    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        first(state).cloned()
    }
}
