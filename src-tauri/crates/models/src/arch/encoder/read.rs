//! From the tensors of a published encoder to the model.
//!
//! The same weights are published under several names: with the family's prefix or, of a bare model, without; norms as
//! `weight` and `bias` or, of the oldest, as `gamma` and `beta`; with the heads of other tasks, which are left out.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use kernels::Distances;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Config, Encoder, Fields, HEAD, Layer, Norm, Places, Positions, info};
use crate::{
    LoraLinear, ModelError, SpanModel, TrainedLinear, arch::note_dtype, json::JsonFile, weights::Weights,
};

/// How a family's layers are called.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Layers {
    /// Before the index: `bert.encoder.layer`.
    pub prefix: &'static str,
    /// Query, key, value, output of attention, then the two of the feed-forward layer.
    pub linears: [&'static str; 6],
    /// The norm after attention, and that after the feed-forward layer.
    pub norms: [&'static str; 2],
}

impl Layers {
    /// The path of a part of a layer.
    pub(super) fn path(&self, layer: usize, part: &str) -> String {
        format!("{}.{layer}.{part}", self.prefix)
    }
}

/// What makes a family.
pub(in crate::arch) struct Family {
    /// What all names begin with, dot included; a bare model has none.
    pub prefix: &'static str,
    /// Its layers.
    pub layers: Layers,
    /// What its config calls its numbers.
    pub fields: Fields,
    /// Reads its config.
    pub parse: fn(&JsonFile) -> Result<Config, ModelError>,
    /// Heads of other tasks that are published with it, by how their names begin.
    pub other_heads: &'static [&'static str],
}

/// Builds the model that `json` describes from `weights`.
pub(in crate::arch) fn build(
    architecture: &str,
    json: &JsonFile,
    weights: Weights,
    family: &Family,
) -> Result<Box<dyn SpanModel>, ModelError> {
    let config = (family.parse)(json)?;
    let mut reader = Reader::new(weights, family, &config);
    let (hidden, width) = (config.hidden_size, family.fields.hidden);
    let embeddings = format!("{}embeddings", family.prefix);
    let mut table = |name: &str, rows: usize, field: &str| {
        reader.take(&format!("{embeddings}.{name}.weight"), &[rows, hidden], &format!("{field} and {width}"))
    };
    let words = table("word_embeddings", config.vocab_size, "vocab_size")?;
    let segments = match config.token_types {
        0 => None,
        kinds => Some(table("token_type_embeddings", kinds, "type_vocab_size")?),
    };
    let places = match &config.positions {
        Positions::Learned { rows, offset } => {
            Places::Learned(table("position_embeddings", *rows, "max_position_embeddings")?, *offset)
        }
        Positions::Relative(relative) => {
            let distances = Distances::new(relative.buckets, relative.longest);
            let encoder = format!("{}encoder", family.prefix);
            let name = format!("{encoder}.rel_embeddings.weight");
            let fields = format!("position_buckets, max_relative_positions and {width}");
            let table = reader.take(&name, &[distances.table_rows(), hidden], &fields)?;
            // As activations are: on an NVIDIA card f32.
            let dtype = if table.device().is_cuda() { DType::F32 } else { table.dtype() };
            let table = kernels::converted(&table, dtype)?;
            let table = match relative.normed {
                true => reader.norm(&format!("{encoder}.LayerNorm"))?.forward(&table)?,
                false => table,
            };
            let (by_query, by_key) = (relative.by_query, relative.by_key);
            Places::Relative { table, distances: Arc::new(distances), by_query, by_key }
        }
    };
    let norm = reader.norm(&format!("{embeddings}.LayerNorm"))?;
    let layers = (0..config.layers).map(|index| reader.layer(index)).collect::<Result<Vec<_>, _>>()?;
    let head = reader.head(architecture, &words)?;
    reader.finish()?;

    let mut info = info(architecture, json, family)?;
    note_dtype(&mut info, &words);
    Ok(Box::new(Encoder {
        info,
        names: family.layers,
        heads: config.heads,
        activation: config.activation,
        device: words.device().clone(),
        words,
        places,
        segments,
        norm,
        layers,
        head,
    }))
}

/// Takes tensors under whichever name they have.
struct Reader<'a> {
    weights: Weights,
    family: &'a Family,
    config: &'a Config,
    /// Whether names lack the family's prefix.
    bare: bool,
}

impl<'a> Reader<'a> {
    fn new(weights: Weights, family: &'a Family, config: &'a Config) -> Self {
        let bare = weights.has("embeddings.word_embeddings.weight");
        Self { weights, family, config, bare }
    }

    /// The name in the file.
    fn stored<'n>(&self, name: &'n str) -> &'n str {
        if self.bare { name.strip_prefix(self.family.prefix).unwrap_or(name) } else { name }
    }

    /// A tensor whose shape follows from these fields of `config.json`.
    fn take(&mut self, name: &str, shape: &[usize], fields: &str) -> Result<Tensor, ModelError> {
        let name = self.stored(name);
        self.weights.take_sized(name, shape, fields)
    }

    fn norm(&mut self, path: &str) -> Result<Norm, ModelError> {
        let path = self.stored(path);
        let names =
            if self.weights.has(&format!("{path}.gamma")) { ["gamma", "beta"] } else { ["weight", "bias"] };
        let (sides, field) = ([self.config.hidden_size], self.family.fields.hidden);
        let [weight, bias] =
            names.map(|name| self.weights.take_sized(&format!("{path}.{name}"), &sides, field));
        Ok(Norm { weight: weight?, bias: bias?, eps: self.config.eps })
    }

    fn layer(&mut self, index: usize) -> Result<Layer, ModelError> {
        let names = self.family.layers;
        let (hidden, middle) = (self.config.hidden_size, self.config.intermediate_size);
        let fields = format!("{} and {}", self.family.fields.hidden, self.family.fields.intermediate);
        let mut linear = |at: usize, out: usize, inputs: usize| {
            let path = names.path(index, names.linears[at]);
            let name = format!("{path}.weight");
            let stored = self.stored(&name).to_owned();
            let weight = self.weights.take_linear(&stored, (out, inputs), &fields)?;
            let bias = self.take(&format!("{path}.bias"), &[out], &fields)?;
            Ok::<_, ModelError>(LoraLinear::new(&path, weight, Some(bias)))
        };
        let linears = [
            linear(0, hidden, hidden)?,
            linear(1, hidden, hidden)?,
            linear(2, hidden, hidden)?,
            linear(3, hidden, hidden)?,
            linear(4, middle, hidden)?,
            linear(5, hidden, middle)?,
        ];
        Ok(Layer {
            linears,
            attention_norm: self.norm(&names.path(index, names.norms[0]))?,
            output_norm: self.norm(&names.path(index, names.norms[1]))?,
        })
    }

    /// The published head, or of a model without one a fresh head as transformers begins it: normal, with no bias. It is the
    /// same each time the model is loaded.
    fn head(&mut self, architecture: &str, like: &Tensor) -> Result<TrainedLinear, ModelError> {
        let hidden = self.config.hidden_size;
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{HEAD}.{part}"));
        if architecture.ends_with("ForQuestionAnswering") || self.weights.has(&weight) {
            let (weight, bias) = (self.weights.take(&weight, &[2, hidden])?, self.weights.take(&bias, &[2])?);
            return Ok(TrainedLinear::new(&weight, Some(&bias))?);
        }
        let fresh: Vec<f32> = normal(2 * hidden, self.config.initializer_range);
        let weight = Tensor::from_vec(fresh, (2, hidden), like.device())?;
        let bias = Tensor::zeros(2, DType::F32, like.device())?;
        Ok(TrainedLinear::new(&weight, Some(&bias))?)
    }

    /// Fails where a tensor is left that is no head of another task and none that older versions of transformers stored.
    fn finish(self) -> Result<(), ModelError> {
        let Self { weights, family, .. } = self;
        let pooler = format!("{}pooler.", family.prefix);
        weights.finish(|name| {
            name.ends_with(".position_ids")
                || name == "position_ids"
                || name.starts_with(&pooler)
                || name.starts_with("pooler.")
                || family.other_heads.iter().any(|head| name.starts_with(head))
        })
    }
}

/// Seeded normal numbers of mean 0 (Box and Muller 1958).
fn normal(count: usize, deviation: f32) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut unit = || (f64::from(random.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
    (0..count)
        .map(|_| {
            let (radius, angle) = ((-2.0 * unit().ln()).sqrt(), std::f64::consts::TAU * unit());
            deviation * (radius * angle.cos()) as f32
        })
        .collect()
}
