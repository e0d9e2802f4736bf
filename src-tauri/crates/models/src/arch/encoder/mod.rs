//! The encoder that BERT, RoBERTa, DistilBERT and DeBERTa have in common, with a head that points at answers.
//!
//! Every layer is attention over the whole sequence, then a feed-forward layer, each followed by a norm of the sum with its
//! input. A family says what its config and its tensors are called and how it knows positions. The base's own dropout is not
//! carried out: a run regularises by the adapter's.

mod config;
mod read;

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{Disentangled, Distances, PairAttention, Sight};

use self::config::Activation;
pub(super) use self::{
    config::{Config, FIELDS, Fields, Positions, Relative},
    read::{Family, Layers, build},
};
use crate::{
    LoraLinear, Model, ModelError, ModelInfo, ModelView, Pass, Sequences, SpanModel, TrainedLinear,
    adapter::{tensor_name, whole_name},
    json::JsonFile,
};

/// The head, by the name that transformers has for it in every family.
const HEAD: &str = "qa_outputs";

/// A norm with its bias.
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

struct Layer {
    /// Query, key, value, output of attention, then the two of the feed-forward layer; [`Layers::linears`] names them.
    linears: [LoraLinear; 6],
    attention_norm: Norm,
    output_norm: Norm,
}

/// Vectors that are added to those of the tokens, or weighed by attention.
enum Places {
    /// `[rows, hidden]`, and the row of the first place.
    Learned(Tensor, usize),
    /// A table `[rows, hidden]` that every layer's own query and key layers see.
    Relative { table: Tensor, distances: Arc<Distances>, by_query: bool, by_key: bool },
}

struct Encoder {
    info: ModelInfo,
    names: Layers,
    heads: usize,
    activation: Activation,
    words: Tensor,
    places: Places,
    segments: Option<Tensor>,
    norm: Norm,
    layers: Vec<Layer>,
    head: TrainedLinear,
    device: Device,
}

/// What the config alone tells.
pub(super) fn info(
    architecture: &str,
    json: &JsonFile,
    family: &Family,
) -> std::result::Result<ModelInfo, ModelError> {
    let config = (family.parse)(json)?;
    Ok(ModelInfo {
        architecture: architecture.to_owned(),
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        layers: config.layers,
        context_length: config.context_length,
        parameters: config.parameters(),
        dtype: "f32".to_owned(),
    })
}

impl Encoder {
    fn attention(&self, layer: &Layer, hidden: &Tensor, sequences: &Sequences, pass: Pass) -> Result<Tensor> {
        let [query, key, value, output, ..] = &layer.linears;
        let (q, k) = (query.forward(hidden, pass)?, key.forward(hidden, pass)?);
        let v = value.forward(hidden, pass)?;
        let lengths = &sequences.lengths;
        let mixed = match &self.places {
            Places::Learned(..) => {
                let scale = ((q.dim(1)? / self.heads) as f32).sqrt().recip();
                let attention = PairAttention { heads: self.heads, scale, sight: Sight::All };
                attention.forward(&q, &k, &v, lengths, lengths, None)?
            }
            Places::Relative { table, distances, by_query, by_key } => {
                let attention = Disentangled {
                    heads: self.heads,
                    distances: Arc::clone(distances),
                    keys: by_query.then(|| key.forward(table, pass)).transpose()?,
                    queries: by_key.then(|| query.forward(table, pass)).transpose()?,
                };
                attention.forward(&q, &k, &v, lengths)?
            }
        };
        output.forward(&mixed, pass)
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::Gelu(form) => kernels::gelu(x, form),
            Activation::Relu => x.relu(),
        }
    }

    fn path(&self, layer: usize, linear: usize) -> String {
        self.names.path(layer, self.names.linears[linear])
    }
}

impl Model for Encoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn view(&self) -> ModelView<'_> {
        ModelView::Span(self)
    }

    fn multiplies_f16(&self) -> bool {
        let linears = self.layers.iter().flat_map(|layer| &layer.linears);
        linears.map(|linear| linear.weight().dtype()).any(|dtype| dtype == DType::F16)
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        let mut named = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for (at, linear) in layer.linears.iter().enumerate() {
                if let Some(adapter) = linear.adapter() {
                    let path = self.path(index, at);
                    named.push((tensor_name(&path, "lora_A"), adapter.a.clone()));
                    named.push((tensor_name(&path, "lora_B"), adapter.b.clone()));
                }
            }
        }
        named.extend(self.head.trained().into_iter().map(|(part, var)| (whole_name(HEAD, part), var)));
        named
    }

    fn linears(&mut self) -> Vec<(String, &mut LoraLinear)> {
        let names = self.names;
        let layers = self.layers.iter_mut().enumerate();
        layers
            .flat_map(|(index, layer)| {
                let linears = layer.linears.iter_mut().zip(names.linears);
                linears.map(move |(linear, name)| (names.path(index, name), linear))
            })
            .collect()
    }

    fn trained_layers(&mut self) -> Vec<(String, &mut TrainedLinear)> {
        vec![(HEAD.to_owned(), &mut self.head)]
    }
}

impl SpanModel for Encoder {
    fn embed(&self, ids: &Tensor, token_types: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let longest = sequences.lengths.iter().copied().max().unwrap_or(0);
        if longest > self.info.context_length {
            candle_core::bail!(
                "{longest} tokens do not fit the {} places of the model",
                self.info.context_length
            );
        }
        let mut hidden = kernels::embedding(ids, &self.words)?;
        match &self.segments {
            // Where there is one kind only, tokenizers may still tell two apart.
            Some(one) if one.dim(0)? == 1 => {
                hidden = hidden.broadcast_add(&kernels::converted(one, hidden.dtype())?)?;
            }
            Some(kinds) => hidden = (hidden + kernels::embedding(token_types, kinds)?)?,
            None => {}
        }
        if let Places::Learned(places, first) = &self.places {
            let rows: Vec<u32> = sequences.positions().iter().map(|&p| p + *first as u32).collect();
            let count = rows.len();
            hidden = (hidden + kernels::embedding(&Tensor::from_vec(rows, count, &self.device)?, places)?)?;
        }
        self.norm.forward(&hidden)
    }

    fn layer(&self, index: usize, hidden: &Tensor, sequences: &Sequences, pass: Pass) -> Result<Tensor> {
        let Some(layer) = self.layers.get(index) else {
            candle_core::bail!("the model has no layer {index}")
        };
        let mixed = self.attention(layer, hidden, sequences, pass)?;
        let hidden = layer.attention_norm.forward(&(hidden + mixed)?)?;
        let [.., up, down] = &layer.linears;
        let wide = self.activate(&up.forward(&hidden, pass)?)?;
        layer.output_norm.forward(&(&hidden + down.forward(&wide, pass)?)?)
    }

    fn span_logits(&self, hidden: &Tensor, pass: Pass) -> Result<Tensor> {
        self.head.forward(&hidden.to_dtype(DType::F32)?, pass)
    }
}
