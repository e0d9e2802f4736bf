//! What encoder-decoders share: two stacks of layers, of which the decoder's also look at the encoder's output. A family's
//! file reads `config.json` and the tensors into an [`EncoderDecoder`].

mod layer;
mod positions;

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::Head;

pub(super) use self::{
    layer::{Activation, Attention, Feed, Layer, Linear, Norm, Order},
    positions::{Buckets, Positions},
};
use crate::{
    DecoderCache, LoraLinear, Memory, Model, ModelInfo, ModelView, Pass, Seq2SeqLm, Sequences,
    adapter::tensor_name,
};

/// One of the two stacks.
pub(super) struct Stack {
    /// Positions of its tokens.
    pub positions: Positions,
    /// Before the first layer.
    pub start_norm: Option<Norm>,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub end_norm: Option<Norm>,
}

/// A model of any of these families.
pub(super) struct EncoderDecoder {
    /// Facts.
    pub info: ModelInfo,
    /// Token embeddings of both stacks, `[vocab, hidden]`.
    pub embeddings: Tensor,
    /// What they are multiplied by.
    pub embedding_scale: f64,
    /// The encoder.
    pub encoder: Stack,
    /// The decoder.
    pub decoder: Stack,
    /// What the decoder's output is multiplied by.
    pub output_scale: f64,
    /// The output projection.
    pub head: Head,
}

impl Stack {
    fn start(&self, model: &EncoderDecoder, ids: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let hidden = kernels::embedding(ids, &model.embeddings)?;
        let hidden = scaled(&hidden, model.embedding_scale)?;
        let hidden = self.positions.add(&hidden, sequences)?;
        match &self.start_norm {
            Some(norm) => norm.forward(&hidden),
            None => Ok(hidden),
        }
    }

    fn end(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.end_norm {
            Some(norm) => norm.forward(hidden),
            None => Ok(hidden.clone()),
        }
    }

    fn layer(&self, index: usize) -> Result<&Layer> {
        match self.layers.get(index) {
            Some(layer) => Ok(layer),
            None => candle_core::bail!("the model has no layer {index}"),
        }
    }
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1.0 { Ok(x.clone()) } else { x * factor }
}

impl EncoderDecoder {
    fn linears_in_order(&self) -> impl Iterator<Item = &Linear> {
        self.encoder.layers.iter().chain(&self.decoder.layers).flat_map(Layer::linears)
    }
}

impl Model for EncoderDecoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn device(&self) -> &Device {
        self.embeddings.device()
    }

    fn view(&self) -> ModelView<'_> {
        ModelView::Seq2Seq(self)
    }

    fn multiplies_f16(&self) -> bool {
        let linears = self.linears_in_order().map(|named| named.linear.weight().dtype());
        linears.chain([self.head.weight.dtype()]).any(|dtype| dtype == DType::F16)
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        let mut named = Vec::new();
        for Linear { path, linear } in self.linears_in_order() {
            if let Some(adapter) = linear.adapter() {
                named.push((tensor_name(path, "lora_A"), adapter.a.clone()));
                named.push((tensor_name(path, "lora_B"), adapter.b.clone()));
            }
        }
        named
    }

    fn linears(&mut self) -> Vec<(String, &mut LoraLinear)> {
        let layers = self.encoder.layers.iter_mut().chain(&mut self.decoder.layers);
        layers.flat_map(Layer::linears_mut).map(|named| (named.path.clone(), &mut named.linear)).collect()
    }
}

impl Seq2SeqLm for EncoderDecoder {
    fn encoder_layers(&self) -> usize {
        self.encoder.layers.len()
    }

    fn embed_source(&self, ids: &Tensor, source: &Sequences) -> Result<Tensor> {
        self.encoder.start(self, ids, source)
    }

    fn encoder_layer(&self, index: usize, hidden: &Tensor, source: &Sequences, pass: Pass) -> Result<Tensor> {
        self.encoder.layer(index)?.encode(hidden, &source.lengths, &self.encoder.positions, pass)
    }

    fn encoder_end(&self, hidden: &Tensor) -> Result<Tensor> {
        self.encoder.end(hidden)
    }

    fn embed_target(&self, ids: &Tensor, target: &Sequences) -> Result<Tensor> {
        self.decoder.start(self, ids, target)
    }

    fn decoder_layer(
        &self,
        index: usize,
        hidden: &Tensor,
        memory: &Memory<'_>,
        target: &Sequences,
        pass: Pass,
        cache: Option<&mut DecoderCache>,
    ) -> Result<Tensor> {
        let layer = self.decoder.layer(index)?;
        match cache {
            None => layer.decode(hidden, memory, &target.lengths, &self.decoder.positions, pass),
            Some(cache) => layer.decode_cached(hidden, memory, target, &self.decoder.positions, pass, cache),
        }
    }

    fn decoder_end(&self, hidden: &Tensor) -> Result<Tensor> {
        scaled(&self.decoder.end(hidden)?, self.output_scale)
    }

    fn cross_entropy(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
        kernels::cross_entropy(hidden, self.head.clone(), targets)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.logits(&hidden.to_dtype(DType::F32)?)
    }
}
