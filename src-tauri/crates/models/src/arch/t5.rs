//! T5 and FLAN-T5 (Raffel et al. 2020, arXiv:1910.10683): norms by the root mean square before each sublayer, positions as a
//! bias that the first layer of each stack holds for all of its layers, and no scaling of scores.

use kernels::{Gelu, Head};
use types::Provider;

use super::{
    decoder::fields,
    encoder_decoder::{
        Activation, Attention, Buckets, EncoderDecoder, Feed, Layer, Linear, Norm, Order, Positions, Stack,
    },
};
use crate::{ModelError, ModelInfo, Seq2SeqLm, json::JsonFile, weights::Weights};

/// No model of this shape has a larger side.
const MAX_SIDE: usize = 1 << 20;

/// A checked config.
struct Config {
    vocab_size: usize,
    hidden: usize,
    head_dim: usize,
    heads: usize,
    middle: usize,
    encoder_layers: usize,
    decoder_layers: usize,
    buckets: usize,
    max_distance: usize,
    eps: f32,
    activation: Activation,
    gated: bool,
    tied: bool,
    context_length: usize,
}

impl Config {
    fn parse(json: &JsonFile) -> Result<Self, ModelError> {
        fields::readable_weights(json)?;
        let side = |field: &str| json.required(field, json.size(field, 1..=MAX_SIDE)?);
        let (activation, gated) = match json.text("feed_forward_proj")?.unwrap_or("relu") {
            "relu" => (Activation::Relu, false),
            "gated-gelu" => (Activation::Gelu(Gelu::Tanh), true),
            other => {
                let problem = format!("only \"relu\" and \"gated-gelu\" are supported, not {other:?}");
                return Err(json.wrong("feed_forward_proj", problem));
            }
        };
        let encoder_layers = json.required("num_layers", json.size("num_layers", 1..=1000)?)?;
        let buckets = json.size("relative_attention_num_buckets", 4..=1 << 16)?.unwrap_or(32);
        let max_distance = json.size("relative_attention_max_distance", 2..=1 << 24)?.unwrap_or(128);
        if max_distance <= buckets / 2 {
            let problem = format!("must be above half of the {buckets} buckets, not {max_distance}");
            return Err(json.wrong("relative_attention_max_distance", problem));
        }
        let (heads, head_dim) = (side("num_heads")?, side("d_kv")?);
        if heads.saturating_mul(head_dim) > MAX_SIDE {
            return Err(json.wrong("num_heads", format!("{heads} heads of {head_dim} are too wide")));
        }
        Ok(Config {
            vocab_size: side("vocab_size")?,
            hidden: side("d_model")?,
            head_dim,
            heads,
            middle: side("d_ff")?,
            encoder_layers,
            decoder_layers: json.size("num_decoder_layers", 1..=1000)?.unwrap_or(encoder_layers),
            buckets,
            max_distance,
            eps: fields::eps(json, "layer_norm_epsilon", 1e-6)?,
            activation,
            gated,
            // Unlike in other families, a config that says nothing means tied.
            tied: json.get("tie_word_embeddings").is_none() || json.flag("tie_word_embeddings")?,
            context_length: json.size("n_positions", 1..=1 << 24)?.unwrap_or(512),
        })
    }

    fn parameters(&self) -> u64 {
        let wide = |n: usize| n as u64;
        let (hidden, inner) = (wide(self.hidden), wide(self.heads * self.head_dim));
        let attention = 4 * hidden * inner + hidden;
        let feed = (if self.gated { 3 } else { 2 }) * hidden * wide(self.middle) + hidden;
        let bias = wide(self.buckets * self.heads);
        let tables = if self.tied { 1 } else { 2 };
        wide(self.encoder_layers) * (attention + feed)
            + wide(self.decoder_layers) * (2 * attention + feed)
            + 2 * (bias + hidden)
            + tables * wide(self.vocab_size) * hidden
    }
}

/// What the config alone tells.
pub(super) fn info(architecture: &str, json: &JsonFile) -> Result<ModelInfo, ModelError> {
    let config = Config::parse(json)?;
    Ok(ModelInfo {
        architecture: architecture.to_owned(),
        vocab_size: config.vocab_size,
        hidden_size: config.hidden,
        layers: config.decoder_layers,
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
    _: Provider,
) -> Result<Box<dyn Seq2SeqLm>, ModelError> {
    let config = Config::parse(json)?;
    let embeddings = weights.take("shared.weight", &[config.vocab_size, config.hidden])?;
    let encoder = stack(&config, &mut weights, "encoder")?;
    let decoder = stack(&config, &mut weights, "decoder")?;
    let own_head = !config.tied && weights.has("lm_head.weight");
    let head = match own_head {
        true => weights.take("lm_head.weight", &[config.vocab_size, config.hidden])?,
        false => embeddings.clone(),
    };
    // Copies of the shared embeddings, and biases that early conversions stored and nothing reads.
    weights.finish(|name| {
        name.ends_with(".embed_tokens.weight")
            || name.ends_with(".EncDecAttention.relative_attention_bias.weight")
            || (!own_head && name == "lm_head.weight")
    })?;
    let mut info = info(architecture, json)?;
    super::note_dtype(&mut info, &embeddings);
    let output_scale = if config.tied { (config.hidden as f64).powf(-0.5) } else { 1.0 };
    Ok(Box::new(EncoderDecoder {
        info,
        embedding_scale: 1.0,
        encoder,
        decoder,
        output_scale,
        head: Head::from(&head),
        embeddings,
    }))
}

fn stack(config: &Config, weights: &mut Weights, side: &str) -> Result<Stack, ModelError> {
    let decodes = side == "decoder";
    let table = weights.take(
        &format!("{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        &[config.buckets, config.heads],
    )?;
    let positions = Positions::Relative(Buckets {
        biases: kernels::converted(&table, candle_core::DType::F32)?.flatten_all()?.to_vec1()?,
        heads: config.heads,
        max_distance: config.max_distance,
        both_ways: !decodes,
    });
    let count = if decodes { config.decoder_layers } else { config.encoder_layers };
    let layers = (0..count)
        .map(|index| layer(config, weights, &format!("{side}.block.{index}"), decodes))
        .collect::<Result<_, _>>()?;
    let end_norm = Some(norm(config, weights, &format!("{side}.final_layer_norm"))?);
    Ok(Stack { positions, start_norm: None, layers, end_norm })
}

fn norm(config: &Config, weights: &mut Weights, name: &str) -> Result<Norm, ModelError> {
    let weight = weights.take(&format!("{name}.weight"), &[config.hidden])?;
    Ok(Norm::Rms { weight, eps: config.eps })
}

fn layer(config: &Config, weights: &mut Weights, block: &str, decodes: bool) -> Result<Layer, ModelError> {
    let own = attention(config, weights, &format!("{block}.layer.0"), "SelfAttention")?;
    let cross = match decodes {
        true => Some(attention(config, weights, &format!("{block}.layer.1"), "EncDecAttention")?),
        false => None,
    };
    let sublayer = format!("{block}.layer.{}", if decodes { 2 } else { 1 });
    let mut linear = |name: &str, out: usize, inputs: usize| {
        let path = format!("{sublayer}.DenseReluDense.{name}");
        Linear::take(weights, (&path, &path), (out, inputs), false)
    };
    let into: &[&str] = if config.gated { &["wi_0", "wi_1"] } else { &["wi"] };
    let into =
        into.iter().map(|name| linear(name, config.middle, config.hidden)).collect::<Result<_, _>>()?;
    let out = linear("wo", config.hidden, config.middle)?;
    let norm = norm(config, weights, &format!("{sublayer}.layer_norm"))?;
    let feed = Feed { into, out, activation: config.activation, norm };
    Ok(Layer { order: Order::NormFirst, own, cross, feed })
}

fn attention(
    config: &Config,
    weights: &mut Weights,
    sublayer: &str,
    name: &str,
) -> Result<Attention, ModelError> {
    let (hidden, inner) = (config.hidden, config.heads * config.head_dim);
    let mut linear = |part: &str, out: usize, inputs: usize| {
        let path = format!("{sublayer}.{name}.{part}");
        Linear::take(weights, (&path, &path), (out, inputs), false)
    };
    let (q, k) = (linear("q", inner, hidden)?, linear("k", inner, hidden)?);
    let (v, o) = (linear("v", inner, hidden)?, linear("o", hidden, inner)?);
    let norm = norm(config, weights, &format!("{sublayer}.layer_norm"))?;
    Ok(Attention { q, k, v, o, norm, heads: config.heads, scale: 1.0 })
}
