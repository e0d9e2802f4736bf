//! What `config.json` says of a model of the Llama shape.

use kernels::Heads;

use crate::{ModelError, json::JsonFile};

/// No model of this shape has a larger side.
const MAX_SIDE: usize = 1 << 20;
/// No model of this shape sees further.
const MAX_CONTEXT: usize = 1 << 24;

/// How the rotary frequencies are stretched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scaling {
    /// Not at all. Dynamic scaling too is this as long as a sequence fits `max_position_embeddings`, and none longer is
    /// accepted.
    None,
    /// Positions are divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    Linear { factor: f32 },
    /// Llama 3.1.
    Llama3 { factor: f32, low_frequency: f32, high_frequency: f32, original: f32 },
}

/// A checked config.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: Heads,
    pub eps: f32,
    pub context_length: usize,
    pub rope_theta: f32,
    pub scaling: Scaling,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub tied: bool,
}

impl Config {
    /// Reads the fields; an unknown value is an error that names it.
    pub(super) fn parse(json: &JsonFile) -> Result<Self, ModelError> {
        if json.get("quantization_config").is_some() {
            return Err(json.wrong(
                "quantization_config",
                "weights that are already quantised cannot be trained here; use the model's f16, bf16 or f32 weights",
            ));
        }
        let side = |field: &str| json.required(field, json.size(field, 1..=MAX_SIDE)?);
        let hidden_size = side("hidden_size")?;
        let context_length =
            json.required("max_position_embeddings", json.size("max_position_embeddings", 1..=MAX_CONTEXT)?)?;
        match json.text("hidden_act")?.unwrap_or("silu") {
            "silu" | "swish" => {}
            other => {
                return Err(json.wrong("hidden_act", format!("only \"silu\" is supported, not {other:?}")));
            }
        }
        if let Some(parallel) = json.size("pretraining_tp", 0..=MAX_SIDE)?.filter(|&p| p > 1) {
            return Err(json.wrong("pretraining_tp", format!("only 1 is supported, not {parallel}")));
        }
        let eps = json.positive("rms_norm_eps")?.unwrap_or(1e-6);
        if eps >= 1.0 {
            return Err(json.wrong("rms_norm_eps", format!("must be below 1, not {eps}")));
        }
        let (rope_theta, scaling) = rope(json, context_length)?;
        Ok(Config {
            vocab_size: side("vocab_size")?,
            hidden_size,
            intermediate_size: side("intermediate_size")?,
            layers: json.required("num_hidden_layers", json.size("num_hidden_layers", 1..=1000)?)?,
            heads: heads(json, hidden_size, context_length)?,
            eps: eps as f32,
            context_length,
            rope_theta,
            scaling,
            attention_bias: json.flag("attention_bias")?,
            mlp_bias: json.flag("mlp_bias")?,
            tied: json.flag("tie_word_embeddings")?,
        })
    }
}

impl Config {
    /// Parameters of the model.
    pub(super) fn parameters(&self) -> u64 {
        let wide = |n: usize| n as u64;
        let (hidden, middle) = (wide(self.hidden_size), wide(self.intermediate_size));
        let (queries, keys) =
            (wide(self.heads.queries * self.heads.dim), wide(self.heads.keys * self.heads.dim));
        let biases = if self.attention_bias { queries + 2 * keys + hidden } else { 0 }
            + if self.mlp_bias { 2 * middle + hidden } else { 0 };
        let layer = 2 * hidden * (queries + keys) + 3 * hidden * middle + 2 * hidden + biases;
        let embeddings = wide(self.vocab_size) * hidden * if self.tied { 1 } else { 2 };
        wide(self.layers) * layer + embeddings + hidden
    }
}

fn heads(json: &JsonFile, hidden: usize, context: usize) -> Result<Heads, ModelError> {
    let queries = json.required("num_attention_heads", json.size("num_attention_heads", 1..=MAX_SIDE)?)?;
    let keys = json.size("num_key_value_heads", 1..=MAX_SIDE)?.unwrap_or(queries);
    if !queries.is_multiple_of(keys) {
        return Err(
            json.wrong("num_key_value_heads", format!("{keys} does not divide {queries} attention heads"))
        );
    }
    let dim = match json.size("head_dim", 2..=MAX_SIDE)? {
        Some(dim) => dim,
        None if hidden.is_multiple_of(queries) => hidden / queries,
        None => {
            return Err(
                json.wrong("num_attention_heads", format!("{queries} does not divide hidden_size {hidden}"))
            );
        }
    };
    if !dim.is_multiple_of(2) {
        return Err(json.wrong("head_dim", format!("rotary positions need an even width, not {dim}")));
    }
    if queries.saturating_mul(dim) > MAX_SIDE {
        return Err(json.wrong("num_attention_heads", format!("{queries} heads of {dim} are too wide")));
    }
    let window = json.size("sliding_window", 1..=usize::MAX)?.filter(|&w| w < context);
    Ok(Heads { queries, keys, dim, window })
}

/// Base and scaling of the rotary frequencies: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling`.
fn rope(json: &JsonFile, context: usize) -> Result<(f32, Scaling), ModelError> {
    let (parameters, name) = match json.object("rope_parameters")? {
        Some(parameters) => (Some(parameters), "rope_parameters"),
        None => (json.object("rope_scaling")?, "rope_scaling"),
    };
    let inner = parameters.as_ref().map(|p| p.positive("rope_theta")).transpose()?.flatten();
    let theta = inner.or(json.positive("rope_theta")?).unwrap_or(10_000.0) as f32;
    let Some(parameters) = parameters else { return Ok((theta, Scaling::None)) };
    let kind = match parameters.text("rope_type")? {
        Some(kind) => Some(kind),
        None => parameters.text("type")?,
    };
    let number = |field: &str| parameters.required(field, parameters.positive(field)?).map(|v| v as f32);
    let scaling = match kind.unwrap_or("default") {
        "default" | "dynamic" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor")? },
        "llama3" => {
            let original =
                parameters.positive("original_max_position_embeddings")?.unwrap_or(context as f64) as f32;
            let (low_frequency, high_frequency) = (number("low_freq_factor")?, number("high_freq_factor")?);
            if low_frequency >= high_frequency {
                return Err(parameters.wrong("high_freq_factor", "must be above low_freq_factor"));
            }
            Scaling::Llama3 { factor: number("factor")?, low_frequency, high_frequency, original }
        }
        other => {
            let known = "default, linear, dynamic and llama3 are supported";
            return Err(json.wrong(name, format!("rope type {other:?} is not supported; {known}")));
        }
    };
    Ok((theta, scaling))
}
