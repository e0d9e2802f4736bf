//! BERT (Devlin et al. 2019, arXiv:1810.04805).

use types::Provider;

use super::encoder::{self, Config, FIELDS, Family, Layers};
use crate::{ModelError, ModelInfo, SpanModel, json::JsonFile, weights::Weights};

/// RoBERTa's layers are called the same.
pub(super) const FAMILY: Family = Family {
    prefix: "bert.",
    layers: Layers {
        prefix: "bert.encoder.layer",
        linears: LINEARS,
        norms: ["attention.output.LayerNorm", "output.LayerNorm"],
    },
    fields: FIELDS,
    parse,
    other_heads: &["cls."],
};

const LINEARS: [&str; 6] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

/// What the config alone tells.
pub(super) fn info(architecture: &str, json: &JsonFile) -> Result<ModelInfo, ModelError> {
    encoder::info(architecture, json, &FAMILY)
}

/// Builds the model that `json` describes from `weights`; the reference computes it for both providers.
pub(super) fn build(
    architecture: &str,
    json: &JsonFile,
    weights: Weights,
    _: Provider,
) -> Result<Box<dyn SpanModel>, ModelError> {
    encoder::build(architecture, json, weights, &FAMILY)
}

fn parse(json: &JsonFile) -> Result<Config, ModelError> {
    let config = Config::parse(json, &FIELDS)?;
    let kinds = json.size("type_vocab_size", 1..=1 << 10)?.unwrap_or(2);
    Ok(Config { token_types: kinds, ..config })
}
