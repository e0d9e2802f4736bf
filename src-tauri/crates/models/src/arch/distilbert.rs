//! DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT without segments, under names of its own.

use types::Provider;

use super::encoder::{self, Config, Family, Fields, Layers};
use crate::{ModelError, ModelInfo, SpanModel, json::JsonFile, weights::Weights};

const FAMILY: Family = Family {
    prefix: "distilbert.",
    layers: Layers {
        prefix: "distilbert.transformer.layer",
        linears: [
            "attention.q_lin",
            "attention.k_lin",
            "attention.v_lin",
            "attention.out_lin",
            "ffn.lin1",
            "ffn.lin2",
        ],
        norms: ["sa_layer_norm", "output_layer_norm"],
    },
    fields: FIELDS,
    parse,
    other_heads: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
};

const FIELDS: Fields = Fields {
    hidden: "dim",
    intermediate: "hidden_dim",
    layers: "n_layers",
    heads: "n_heads",
    activation: "activation",
};

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
    Config::parse(json, &FIELDS)
}
