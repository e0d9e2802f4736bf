//! RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT whose places begin after that of the padding token, and which tells no
//! segments apart.

use types::Provider;

use super::{
    bert,
    encoder::{self, Config, FIELDS, Family, Layers, Positions},
};
use crate::{ModelError, ModelInfo, SpanModel, json::JsonFile, weights::Weights};

const FAMILY: Family = Family {
    prefix: "roberta.",
    layers: Layers { prefix: "roberta.encoder.layer", ..bert::FAMILY.layers },
    fields: FIELDS,
    parse,
    other_heads: &["lm_head."],
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
    let config = Config::parse(json, &FIELDS)?;
    let kinds = json.size("type_vocab_size", 1..=1 << 10)?.unwrap_or(1);
    let offset = json.size("pad_token_id", 0..=1 << 20)?.unwrap_or(1) + 1;
    let rows = config.context_length;
    if offset >= rows {
        let problem = format!("{rows} places are too few: the first token has place {offset}");
        return Err(json.wrong("max_position_embeddings", problem));
    }
    Ok(Config {
        token_types: kinds,
        positions: Positions::Learned { rows, offset },
        context_length: rows - offset,
        ..config
    })
}
