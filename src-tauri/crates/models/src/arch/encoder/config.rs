//! What a `config.json` says of an encoder, whatever its family calls it.

use kernels::Gelu;

use crate::{ModelError, arch::decoder::fields::readable_weights, json::JsonFile};

/// No encoder has a larger side.
const MAX_SIDE: usize = 1 << 20;
/// No encoder sees further.
const MAX_CONTEXT: usize = 1 << 20;

/// How a family calls its numbers.
pub(in crate::arch) struct Fields {
    /// Width of the hidden states.
    pub hidden: &'static str,
    /// Width between the two linear layers of a feed-forward layer.
    pub intermediate: &'static str,
    /// Layers.
    pub layers: &'static str,
    /// Attention heads.
    pub heads: &'static str,
    /// The function between the two linear layers.
    pub activation: &'static str,
}

/// As BERT calls them.
pub(in crate::arch) const FIELDS: Fields = Fields {
    hidden: "hidden_size",
    intermediate: "intermediate_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    activation: "hidden_act",
};

/// The function between the two linear layers of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) enum Activation {
    Gelu(Gelu),
    Relu,
}

/// How the model knows where a token stands.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) enum Positions {
    /// A learned vector for each place is added to the token's: `rows` of them, the first place having row `offset`.
    Learned { rows: usize, offset: usize },
    /// Attention weighs distances.
    Relative(Relative),
}

/// Disentangled attention.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Relative {
    /// Distances share this many rows of the table in each direction; absent where each has its own.
    pub buckets: Option<usize>,
    /// The longest distance told apart.
    pub longest: usize,
    /// Whether a query's content weighs distances.
    pub by_query: bool,
    /// Whether a key's content does.
    pub by_key: bool,
    /// Whether the table goes through a norm.
    pub normed: bool,
}

/// A checked config.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub eps: f32,
    pub activation: Activation,
    pub context_length: usize,
    pub positions: Positions,
    /// Kinds of segments that have a vector; 0 where segments do not matter.
    pub token_types: usize,
    /// Standard deviation of a fresh head.
    pub initializer_range: f32,
}

impl Config {
    /// Reads what all families have; places are learned, from row 0 on, and there are no segments.
    pub(in crate::arch) fn parse(json: &JsonFile, fields: &Fields) -> Result<Self, ModelError> {
        readable_weights(json)?;
        for field in ["is_decoder", "add_cross_attention"] {
            if json.flag(field)? {
                return Err(
                    json.wrong(field, "must be false: an encoder points at answers, a decoder does not")
                );
            }
        }
        if let Some(kind) = json.text("position_embedding_type")?.filter(|&kind| kind != "absolute") {
            let problem = format!("only \"absolute\" positions are supported, not {kind:?}");
            return Err(json.wrong("position_embedding_type", problem));
        }
        let side = |field: &str| json.required(field, json.size(field, 1..=MAX_SIDE)?);
        let (hidden_size, heads) = (side(fields.hidden)?, side(fields.heads)?);
        if !hidden_size.is_multiple_of(heads) {
            let problem = format!("{heads} does not divide {} {hidden_size}", fields.hidden);
            return Err(json.wrong(fields.heads, problem));
        }
        let rows = side_of_context(json)?;
        Ok(Config {
            vocab_size: side("vocab_size")?,
            hidden_size,
            intermediate_size: side(fields.intermediate)?,
            layers: json.required(fields.layers, json.size(fields.layers, 1..=1000)?)?,
            heads,
            eps: eps(json)?,
            activation: activation(json, fields.activation)?,
            context_length: rows,
            positions: Positions::Learned { rows, offset: 0 },
            token_types: 0,
            initializer_range: json.positive("initializer_range")?.unwrap_or(0.02) as f32,
        })
    }

    /// Parameters of the model with its head.
    pub(in crate::arch) fn parameters(&self) -> u64 {
        let wide = |n: usize| n as u64;
        let (hidden, middle) = (wide(self.hidden_size), wide(self.intermediate_size));
        let layer = 4 * hidden * (hidden + 1) + middle * (hidden + 1) + hidden * (middle + 1) + 4 * hidden;
        let rows = match &self.positions {
            Positions::Learned { rows, .. } => wide(*rows),
            Positions::Relative(relative) => {
                2 * wide(relative.buckets.unwrap_or(relative.longest)) + if relative.normed { 2 } else { 0 }
            }
        };
        let tables = (wide(self.vocab_size) + wide(self.token_types) + rows + 2) * hidden;
        tables + wide(self.layers) * layer + 2 * (hidden + 1)
    }
}

/// Places that the model was made for.
fn side_of_context(json: &JsonFile) -> Result<usize, ModelError> {
    let field = "max_position_embeddings";
    json.required(field, json.size(field, 1..=MAX_CONTEXT)?)
}

fn eps(json: &JsonFile) -> Result<f32, ModelError> {
    let eps = json.positive("layer_norm_eps")?.unwrap_or(1e-12);
    if eps >= 1.0 {
        return Err(json.wrong("layer_norm_eps", format!("must be below 1, not {eps}")));
    }
    Ok(eps as f32)
}

fn activation(json: &JsonFile, field: &str) -> Result<Activation, ModelError> {
    match json.text(field)?.unwrap_or("gelu") {
        "gelu" => Ok(Activation::Gelu(Gelu::Exact)),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::Gelu(Gelu::Tanh)),
        "relu" => Ok(Activation::Relu),
        other => {
            let known = "\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\" and \"relu\" are supported";
            Err(json.wrong(field, format!("{known}, not {other:?}")))
        }
    }
}
