//! A described model with its weights.

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{FrozenWeight, Head};
use types::Provider;

use super::{
    Description, fused,
    layer::{Layer, Norm},
    rope::Angles,
};
use crate::{
    CausalLm, LayerCache, LoraLinear, Model, ModelError, ModelInfo, ModelView, Pass, Sequences,
    TrainedLinear,
    adapter::{tensor_name, whole_name},
    causal::each_layer,
    weights::{Weights, mxfp4},
};

/// The tensors of a model, with the fields of `config.json` that their shapes come from.
pub(super) struct Source {
    weights: Weights,
}

impl Source {
    /// A tensor, whose shape `fields` give.
    pub fn take(
        &mut self,
        name: &str,
        shape: &[usize],
        fields: &str,
    ) -> std::result::Result<Tensor, ModelError> {
        self.weights.take_sized(name, shape, fields)
    }

    /// The weight `[out, in]` of a linear layer, whose shape `fields` give.
    pub fn take_linear(
        &mut self,
        name: &str,
        shape: (usize, usize),
        fields: &str,
    ) -> std::result::Result<FrozenWeight, ModelError> {
        self.weights.take_linear(name, shape, fields)
    }

    /// A tensor of this shape that is stored in MXFP4.
    pub fn take_mxfp4(
        &mut self,
        name: &str,
        shape: &[usize],
        fields: &str,
    ) -> std::result::Result<Tensor, ModelError> {
        mxfp4::take(&mut self.weights, name, shape, fields)
    }
}

/// The path of the scalar head.
const SCORE: &str = "score";

struct Decoder {
    info: ModelInfo,
    embeddings: Tensor,
    embedding_scale: Option<f64>,
    ropes: Vec<Angles>,
    layers: Vec<Layer>,
    /// The path of each layer's linear layers.
    paths: Vec<Vec<String>>,
    norm: Norm,
    /// The embeddings themselves where they are tied.
    head: Head,
    /// The scalar head, where there is one.
    score: Option<TrainedLinear>,
    device: Device,
    /// Whether the fused kernels compute it. Its residual stream is f32 then, also on bf16 weights.
    fused: bool,
}

/// What the config alone tells.
pub(in crate::arch) fn info(architecture: &str, description: &Description) -> ModelInfo {
    ModelInfo {
        architecture: architecture.to_owned(),
        vocab_size: description.vocab_size,
        hidden_size: description.hidden_size,
        layers: description.layers.len(),
        context_length: description.context_length,
        parameters: description.parameters(),
        dtype: "f32".to_owned(),
    }
}

/// Builds the model that is described from its weights.
pub(in crate::arch) fn build(
    architecture: &str,
    description: &Description,
    mut weights: Weights,
    provider: Provider,
) -> std::result::Result<Box<dyn CausalLm>, ModelError> {
    weights.name_text_part();
    let mut source = Source { weights };
    let (names, hidden, vocab) = (description.names, description.hidden_size, description.vocab_size);
    let table = "vocab_size and hidden_size";
    let device = source.weights.device().clone();
    // Only some rows are read of embeddings that are no head too: where memory is short, they stay off the card.
    let of_embeddings =
        if source.weights.is_quantised() && !description.tied { Device::Cpu } else { device.clone() };
    let name = format!("{}.weight", names.embeddings);
    let embeddings = source.weights.take_sized_to(&of_embeddings, &name, &[vocab, hidden], table)?;
    let mut layers = Vec::with_capacity(description.layers.len());
    let mut paths = Vec::with_capacity(description.layers.len());
    for (index, &place) in description.layers.iter().enumerate() {
        let path = format!("{}.{index}", names.layers);
        layers.push(Layer::load(&mut source, description, place, &path)?);
        paths.push(description.linears.iter().map(|linear| format!("{path}.{}", linear.path)).collect());
    }
    let norm = Norm::load(&mut source, description.norm, names.final_norm, hidden, "hidden_size")?;
    let head = Head {
        weight: match description.tied {
            true => embeddings.clone(),
            false => source.take(&format!("{}.weight", names.head), &[vocab, hidden], table)?,
        },
        bias: match description.head_bias {
            true => Some(source.take(&format!("{}.bias", names.head), &[vocab], "vocab_size")?),
            false => None,
        },
        cap: description.logit_cap,
    };
    source.weights.finish(|name| superfluous(name, description))?;
    let mut info = info(architecture, description);
    info.dtype = embeddings.dtype().as_str().to_owned();
    Ok(Box::new(Decoder {
        info,
        embedding_scale: description.embedding_scale,
        ropes: description.ropes.iter().map(|rope| Angles::new(rope, description.context_length)).collect(),
        layers,
        paths,
        norm,
        head,
        score: None,
        device,
        embeddings,
        fused: provider == Provider::Unsloth && fused::fits(description),
    }))
}

/// What files hold beside the model: old conversions store rotary frequencies or masks, some tied models a copy of the
/// embeddings as the head, and some models parts that are not computed.
fn superfluous(name: &str, description: &Description) -> bool {
    let names = description.names;
    [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"].iter().any(|end| name.ends_with(end))
        || (description.tied && name.strip_suffix(".weight") == Some(names.head))
        || names.ignored.iter().any(|start| name.starts_with(start))
}

impl Model for Decoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn view(&self) -> ModelView<'_> {
        ModelView::Causal(self)
    }

    fn multiplies_f16(&self) -> bool {
        let linears = self.layers.iter().flat_map(|layer| &layer.linears);
        let mut dtypes = linears.map(|(_, linear)| linear.weight().dtype()).chain([self.head.weight.dtype()]);
        dtypes.any(|dtype| dtype == DType::F16)
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        let mut named = Vec::new();
        for (layer, paths) in self.layers.iter().zip(&self.paths) {
            for (path, (_, linear)) in paths.iter().zip(&layer.linears) {
                if let Some(adapter) = linear.adapter() {
                    named.push((tensor_name(path, "lora_A"), adapter.a.clone()));
                    named.push((tensor_name(path, "lora_B"), adapter.b.clone()));
                }
            }
        }
        let score = self.score.iter().flat_map(TrainedLinear::trained);
        named.extend(score.map(|(part, var)| (whole_name(SCORE, part), var)));
        named
    }

    fn linears(&mut self) -> Vec<(String, &mut LoraLinear)> {
        let layers = self.layers.iter_mut().zip(&self.paths);
        layers
            .flat_map(|(layer, paths)| {
                paths.iter().cloned().zip(layer.linears.iter_mut().map(|(_, linear)| linear))
            })
            .collect()
    }

    fn trained_layers(&mut self) -> Vec<(String, &mut TrainedLinear)> {
        self.score.iter_mut().map(|score| (SCORE.to_owned(), score)).collect()
    }

    fn set_scored(&mut self, scored: bool) -> std::result::Result<(), ModelError> {
        self.score = match (scored, self.score.take()) {
            (false, _) => None,
            (true, Some(score)) => Some(score),
            (true, None) => {
                let weight = Tensor::zeros((1, self.info.hidden_size), DType::F32, &self.device)?;
                Some(TrainedLinear::new(&weight, None)?)
            }
        };
        Ok(())
    }
}

impl CausalLm for Decoder {
    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let hidden = kernels::embedding(ids, &self.embeddings)?;
        let hidden = match self.embedding_scale {
            Some(scale) => (hidden * scale)?,
            None => hidden,
        };
        if self.fused { hidden.to_dtype(DType::F32) } else { Ok(hidden) }
    }

    fn layer(
        &self,
        index: usize,
        hidden: &Tensor,
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let Some(layer) = self.layers.get(index) else {
            candle_core::bail!("the model has no layer {index}")
        };
        if let Some(cache) = &cache
            && (sequences.lengths.len() != 1 || sequences.offset != cache.len())
        {
            candle_core::bail!(
                "a cache of {} tokens takes one sequence that starts there, not {sequences:?}",
                cache.len()
            );
        }
        if self.fused {
            fused::forward(layer, hidden, &self.ropes, sequences, pass, cache)
        } else {
            layer.forward(hidden, &self.ropes, sequences, pass, cache)
        }
    }

    fn layer_of_many(
        &self,
        index: usize,
        hidden: &Tensor,
        lengths: &[usize],
        pass: Pass,
        caches: &mut [LayerCache],
    ) -> Result<Tensor> {
        match self.layers.get(index) {
            Some(layer) if self.fused => {
                fused::forward_many(layer, hidden, &self.ropes, lengths, pass, caches)
            }
            _ => each_layer(self, index, hidden, lengths, pass, caches),
        }
    }

    fn keeps_cache(&self, before: usize, now: usize) -> bool {
        before == 0 || self.ropes.iter().all(|angles| angles.is_long(before) == angles.is_long(now))
    }

    fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        self.norm.forward(hidden)
    }

    fn cross_entropy(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
        if self.fused && self.head.is_plain() {
            kernels::fused_cross_entropy(hidden, &self.head.weight, targets)
        } else {
            kernels::cross_entropy(hidden, self.head.clone(), targets)
        }
    }

    fn token_log_probs_at(&self, hidden: &Tensor, targets: &[u32], temperature: f64) -> Result<Tensor> {
        let hidden = if temperature == 1.0 { hidden.clone() } else { (hidden / temperature)? };
        if self.fused && self.head.is_plain() {
            kernels::fused_token_log_probs(&hidden, &self.head.weight, targets)
        } else {
            kernels::token_log_probs(&hidden, self.head.divided(temperature)?, targets)
        }
    }

    fn score(&self, hidden: &Tensor, pass: Pass) -> Result<Tensor> {
        match &self.score {
            Some(score) => score.forward(hidden, pass)?.squeeze(1),
            None => candle_core::bail!("the model has no scalar head"),
        }
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = hidden.to_dtype(DType::F32)?;
        if self.fused && self.head.is_plain() {
            kernels::fused_product(&hidden, &self.head.weight)
        } else {
            self.head.logits(&hidden)
        }
    }
}
