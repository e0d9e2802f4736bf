//! BART and DistilBART (Lewis et al. 2020, arXiv:1910.13461): learned positions, layer norms after each sublayer, biases
//! everywhere.

use kernels::{Gelu, Head};
use types::Provider;

use super::{
    decoder::fields,
    encoder_decoder::{
        Activation, Attention, EncoderDecoder, Feed, Layer, Linear, Norm, Order, Positions, Stack,
    },
};
use crate::{ModelError, ModelInfo, Seq2SeqLm, json::JsonFile, weights::Weights};

/// No model of this shape has a larger side.
const MAX_SIDE: usize = 1 << 20;
/// Rows of a table of positions that stand before that of position 0.
const OFFSET: usize = 2;
/// What PyTorch's layer norm adds to the variance; the config does not tell.
const EPS: f32 = 1e-5;

/// Fields of older configs, and the only value of each that this family has here.
const FIXED: &[(&str, bool)] = &[
    ("normalize_before", false),
    ("normalize_embedding", true),
    ("add_final_layer_norm", false),
    ("static_position_embeddings", false),
    ("extra_pos_embeddings", false),
];

/// The numbers of one stack.
struct Side {
    layers: usize,
    heads: usize,
    middle: usize,
}

/// A checked config.
struct Config {
    vocab_size: usize,
    hidden: usize,
    encoder: Side,
    decoder: Side,
    activation: Activation,
    scale_embedding: bool,
    context_length: usize,
}

impl Config {
    fn parse(json: &JsonFile) -> Result<Self, ModelError> {
        fields::readable_weights(json)?;
        let side = |field: &str| json.required(field, json.size(field, 1..=MAX_SIDE)?);
        for &(field, value) in FIXED {
            if json.get(field).and_then(serde_json::Value::as_bool).is_some_and(|given| given != value) {
                return Err(json.wrong(field, format!("only {value} is supported")));
            }
        }
        let activation = match json.text("activation_function")?.unwrap_or("gelu") {
            "gelu" => Activation::Gelu(Gelu::Exact),
            "gelu_new" => Activation::Gelu(Gelu::Tanh),
            "relu" => Activation::Relu,
            other => {
                let problem =
                    format!("only \"gelu\", \"gelu_new\" and \"relu\" are supported, not {other:?}");
                return Err(json.wrong("activation_function", problem));
            }
        };
        if json.get("tie_word_embeddings").is_some() && !json.flag("tie_word_embeddings")? {
            return Err(json.wrong("tie_word_embeddings", "only true is supported"));
        }
        let (vocab_size, hidden) = (side("vocab_size")?, side("d_model")?);
        let stack = |name: &str| {
            let field = |part: &str| format!("{name}_{part}");
            let heads = side(&field("attention_heads"))?;
            if !hidden.is_multiple_of(heads) {
                let problem = format!("{heads} does not divide d_model {hidden}");
                return Err(json.wrong(&field("attention_heads"), problem));
            }
            let layers = field("layers");
            Ok(Side {
                layers: json.required(&layers, json.size(&layers, 1..=1000)?)?,
                heads,
                middle: side(&field("ffn_dim"))?,
            })
        };
        Ok(Config {
            vocab_size,
            hidden,
            encoder: stack("encoder")?,
            decoder: stack("decoder")?,
            activation,
            scale_embedding: json.flag("scale_embedding")?,
            context_length: json
                .required("max_position_embeddings", json.size("max_position_embeddings", 1..=1 << 24)?)?,
        })
    }

    fn parameters(&self) -> u64 {
        let wide = |n: usize| n as u64;
        let hidden = wide(self.hidden);
        let (norm, attention) = (2 * hidden, 4 * (hidden * hidden + hidden));
        let feed = |side: &Side| 2 * hidden * wide(side.middle) + wide(side.middle) + hidden;
        let (encoder, decoder) = (&self.encoder, &self.decoder);
        wide(encoder.layers) * (attention + feed(encoder) + 2 * norm)
            + wide(decoder.layers) * (2 * attention + feed(decoder) + 3 * norm)
            + 2 * (wide(self.context_length + OFFSET) * hidden + norm)
            + wide(self.vocab_size) * hidden
    }
}

/// What the config alone tells.
pub(super) fn info(architecture: &str, json: &JsonFile) -> Result<ModelInfo, ModelError> {
    let config = Config::parse(json)?;
    Ok(ModelInfo {
        architecture: architecture.to_owned(),
        vocab_size: config.vocab_size,
        hidden_size: config.hidden,
        layers: config.decoder.layers,
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
    // A checkpoint of the bare model has its tensors without this.
    let stored =
        if weights.has("model.shared.weight") || !weights.has("shared.weight") { "model." } else { "" };
    let embeddings = weights.take(&format!("{stored}shared.weight"), &[config.vocab_size, config.hidden])?;
    let encoder = stack(&config, &mut weights, stored, "encoder")?;
    let decoder = stack(&config, &mut weights, stored, "decoder")?;
    let bias = match weights.has("final_logits_bias") {
        true => Some(weights.take("final_logits_bias", &[1, config.vocab_size])?.flatten_all()?),
        false => None,
    };
    weights.finish(|name| {
        name.ends_with(".embed_tokens.weight") || name == "embed_tokens.weight" || name == "lm_head.weight"
    })?;
    let mut info = info(architecture, json)?;
    super::note_dtype(&mut info, &embeddings);
    let embedding_scale = if config.scale_embedding { (config.hidden as f64).sqrt() } else { 1.0 };
    Ok(Box::new(EncoderDecoder {
        info,
        embedding_scale,
        encoder,
        decoder,
        output_scale: 1.0,
        head: Head { bias, ..Head::from(&embeddings) },
        embeddings,
    }))
}

fn stack(config: &Config, weights: &mut Weights, stored: &str, name: &str) -> Result<Stack, ModelError> {
    let decodes = name == "decoder";
    let side = if decodes { &config.decoder } else { &config.encoder };
    let table = weights.take(
        &format!("{stored}{name}.embed_positions.weight"),
        &[config.context_length + OFFSET, config.hidden],
    )?;
    let start_norm = norm(config, weights, &format!("{stored}{name}.layernorm_embedding"))?;
    let layers = (0..side.layers)
        .map(|index| layer(config, side, weights, stored, &format!("{name}.layers.{index}"), decodes))
        .collect::<Result<_, _>>()?;
    let positions = Positions::Learned { table, offset: OFFSET };
    Ok(Stack { positions, start_norm: Some(start_norm), layers, end_norm: None })
}

fn norm(config: &Config, weights: &mut Weights, name: &str) -> Result<Norm, ModelError> {
    let mut take = |part: &str| weights.take(&format!("{name}.{part}"), &[config.hidden]);
    Ok(Norm::Layer { weight: take("weight")?, bias: take("bias")?, eps: EPS })
}

fn layer(
    config: &Config,
    side: &Side,
    weights: &mut Weights,
    stored: &str,
    path: &str,
    decodes: bool,
) -> Result<Layer, ModelError> {
    let hidden = config.hidden;
    let linear = |weights: &mut Weights, name: &str, out: usize, inputs: usize| {
        let names = (format!("{stored}{path}.{name}"), format!("model.{path}.{name}"));
        Linear::take(weights, (&names.0, &names.1), (out, inputs), true)
    };
    let attention = |weights: &mut Weights, name: &str| {
        let mut part = |part: &str| linear(weights, &format!("{name}.{part}"), hidden, hidden);
        let (q, k, v, o) = (part("q_proj")?, part("k_proj")?, part("v_proj")?, part("out_proj")?);
        let norm = norm(config, weights, &format!("{stored}{path}.{name}_layer_norm"))?;
        let scale = ((hidden / side.heads) as f32).sqrt().recip();
        Ok::<_, ModelError>(Attention { q, k, v, o, norm, heads: side.heads, scale })
    };
    let own = attention(weights, "self_attn")?;
    let cross = if decodes { Some(attention(weights, "encoder_attn")?) } else { None };
    let into = vec![linear(weights, "fc1", side.middle, hidden)?];
    let out = linear(weights, "fc2", hidden, side.middle)?;
    let norm = norm(config, weights, &format!("{stored}{path}.final_layer_norm"))?;
    let feed = Feed { into, out, activation: config.activation, norm };
    Ok(Layer { order: Order::NormLast, own, cross, feed })
}
