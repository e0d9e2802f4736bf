//! The Llama shape: Llama 1, 2 and 3, Mistral, SmolLM2, TinyLlama.
//!
//! Pre-norm decoder layers with rotary positions, grouped-query attention and a SwiGLU feed-forward layer, named as in
//! the published weights.

mod config;
mod gguf;
mod rope;

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::Heads;
use types::Provider;

pub(super) use self::gguf::layout as gguf;
use self::{config::Config, rope::Rope};
use crate::{
    CausalLm, LayerCache, LoraLinear, Model, ModelError, ModelInfo, ModelView, Pass, Sequences,
    adapter::tensor_name, json::JsonFile, weights::Weights,
};

struct Layer {
    input_norm: Tensor,
    q: LoraLinear,
    k: LoraLinear,
    v: LoraLinear,
    o: LoraLinear,
    post_attention_norm: Tensor,
    gate: LoraLinear,
    up: LoraLinear,
    down: LoraLinear,
}

/// The linear layers of a decoder layer, in the order they are used.
const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

impl Layer {
    /// In the order of [`LINEARS`].
    fn linears(&self) -> [&LoraLinear; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    fn linears_mut(&mut self) -> [&mut LoraLinear; 7] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
    }
}

struct Llama {
    info: ModelInfo,
    eps: f32,
    heads: Heads,
    rope: Rope,
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    /// The embeddings themselves where they are tied.
    head: Tensor,
    device: Device,
    /// Whether the fused kernels compute it. Its residual stream is f32 then, also on bf16 weights.
    fused: bool,
}

/// What the config alone tells.
pub(super) fn info(architecture: &str, json: &JsonFile) -> std::result::Result<ModelInfo, ModelError> {
    let config = Config::parse(json)?;
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

/// Builds the model that `json` describes from `weights`.
pub(super) fn build(
    architecture: &str,
    json: &JsonFile,
    mut weights: Weights,
    provider: Provider,
) -> std::result::Result<Box<dyn CausalLm>, ModelError> {
    let config = Config::parse(json)?;
    let (hidden, dim) = (config.hidden_size, config.heads.dim);
    let embeddings = weights.take("model.embed_tokens.weight", &[config.vocab_size, hidden])?;
    let (queries, keys) = (config.heads.queries * dim, config.heads.keys * dim);
    let middle = config.intermediate_size;
    let mut layers = Vec::with_capacity(config.layers);
    for index in 0..config.layers {
        let prefix = format!("model.layers.{index}");
        let mut norm = |name: &str| weights.take(&format!("{prefix}.{name}.weight"), &[hidden]);
        let (input_norm, post_attention_norm) = (norm("input_layernorm")?, norm("post_attention_layernorm")?);
        let mut linear = |name: usize, out: usize, inputs: usize, bias: bool| {
            let path = format!("{prefix}.{}", LINEARS[name]);
            let weight = weights.take(&format!("{path}.weight"), &[out, inputs])?;
            let bias = bias.then(|| weights.take(&format!("{path}.bias"), &[out])).transpose()?;
            Ok::<_, ModelError>(LoraLinear::new(&path, weight, bias))
        };
        let (attention_bias, mlp_bias) = (config.attention_bias, config.mlp_bias);
        layers.push(Layer {
            input_norm,
            q: linear(0, queries, hidden, attention_bias)?,
            k: linear(1, keys, hidden, attention_bias)?,
            v: linear(2, keys, hidden, attention_bias)?,
            o: linear(3, hidden, queries, attention_bias)?,
            post_attention_norm,
            gate: linear(4, middle, hidden, mlp_bias)?,
            up: linear(5, middle, hidden, mlp_bias)?,
            down: linear(6, hidden, middle, mlp_bias)?,
        });
    }
    let norm = weights.take("model.norm.weight", &[hidden])?;
    let head = if config.tied {
        embeddings.clone()
    } else {
        weights.take("lm_head.weight", &[config.vocab_size, hidden])?
    };
    // Old conversions store the rotary frequencies, and some tied models a copy of the embeddings as the head.
    weights
        .finish(|name| name.ends_with(".rotary_emb.inv_freq") || (config.tied && name == "lm_head.weight"))?;
    let mut info = info(architecture, json)?;
    if embeddings.dtype() == DType::BF16 {
        info.dtype = "bf16".to_owned();
    }
    Ok(Box::new(Llama {
        info,
        eps: config.eps,
        heads: config.heads,
        rope: Rope::new(&config),
        device: embeddings.device().clone(),
        embeddings,
        layers,
        norm,
        head,
        fused: provider == Provider::Unsloth,
    }))
}

impl Llama {
    /// A layer as one operation.
    fn fused_layer(
        &self,
        layer: &Layer,
        hidden: &Tensor,
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let (table, positions) = self.rope.at(sequences)?;
        let parts = layer.linears().map(|linear| linear.part(pass));
        // Adapters of one model have one factor.
        let scale = parts.iter().find(|(linear, _)| linear.adapter.is_some()).map_or(1.0, |part| part.1);
        let fused = kernels::DecoderLayer {
            input_norm: layer.input_norm.clone(),
            post_attention_norm: layer.post_attention_norm.clone(),
            eps: self.eps,
            linears: parts.map(|part| part.0),
            scale,
            heads: self.heads,
        };
        match cache {
            Some(cache) => fused.forward_cached(hidden, &table, cache.fused()),
            None => {
                let lengths = sequences.lengths.clone();
                fused.forward(hidden, kernels::LayerInput { lengths, table, positions })
            }
        }
    }

    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let (table, positions) = self.rope.at(sequences)?;
        let q = kernels::rope(&layer.q.forward(x, pass)?, &table, &positions)?;
        let k = kernels::rope(&layer.k.forward(x, pass)?, &table, &positions)?;
        let v = layer.v.forward(x, pass)?;
        let mixed = match cache {
            None => kernels::attention(&q, &k, &v, &sequences.lengths, self.heads)?,
            Some(cache) => {
                let heads =
                    |x: &Tensor| x.reshape((x.dim(0)?, self.heads.keys, self.heads.dim))?.transpose(0, 1);
                let (k, v) = cache.append(&heads(&k)?, &heads(&v)?)?;
                kernels::attention_cached(&q, &k, &v, self.heads)?
            }
        };
        layer.o.forward(&mixed, pass)
    }
}

impl Model for Llama {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn view(&self) -> ModelView<'_> {
        ModelView::Causal(self)
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        let mut named = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for (name, linear) in LINEARS.iter().zip(layer.linears()) {
                if let Some(adapter) = linear.adapter() {
                    let path = format!("model.layers.{index}.{name}");
                    named.push((tensor_name(&path, "lora_A"), adapter.a.clone()));
                    named.push((tensor_name(&path, "lora_B"), adapter.b.clone()));
                }
            }
        }
        named
    }

    fn linears(&mut self) -> Vec<(String, &mut LoraLinear)> {
        let layers = self.layers.iter_mut().enumerate();
        layers
            .flat_map(|(index, layer)| {
                let names = LINEARS.iter().map(move |name| format!("model.layers.{index}.{name}"));
                names.zip(layer.linears_mut())
            })
            .collect()
    }
}

impl CausalLm for Llama {
    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let hidden = kernels::embedding(ids, &self.embeddings)?;
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
            return self.fused_layer(layer, hidden, sequences, pass, cache);
        }
        let x = kernels::rms_norm(hidden, &layer.input_norm, self.eps)?;
        let hidden = (hidden + self.attention(layer, &x, sequences, pass, cache)?)?;
        let x = kernels::rms_norm(&hidden, &layer.post_attention_norm, self.eps)?;
        let x = kernels::gated(&layer.gate.forward(&x, pass)?, &layer.up.forward(&x, pass)?, kernels::Gate::Silu)?;
        hidden + layer.down.forward(&x, pass)?
    }

    fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        kernels::rms_norm(hidden, &self.norm, self.eps)
    }

    fn cross_entropy(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
        if self.fused {
            kernels::fused_cross_entropy(hidden, &self.head, targets)
        } else {
            kernels::cross_entropy(hidden, &self.head, targets)
        }
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = hidden.to_dtype(DType::F32)?;
        if self.fused {
            kernels::fused_product(&hidden, &self.head)
        } else {
            kernels::frozen_linear(&hidden, &self.head)
        }
    }
}
