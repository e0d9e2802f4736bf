//! DeBERTa v2 and v3 (He et al. 2021, arXiv:2111.09543): attention weighs distances instead of places.

use serde_json::Value;
use types::Provider;

use super::{
    bert,
    encoder::{self, Config, FIELDS, Family, Layers, Positions, Relative},
};
use crate::{ModelError, ModelInfo, SpanModel, json::JsonFile, weights::Weights};

const FAMILY: Family = Family {
    prefix: "deberta.",
    layers: Layers {
        prefix: "deberta.encoder.layer",
        linears: [
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ],
        norms: bert::FAMILY.layers.norms,
    },
    fields: FIELDS,
    parse,
    other_heads: &["cls.", "lm_predictions.", "mask_predictions.", "deberta.embeddings.position_embeddings."],
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
    // Version 1 and the largest models of version 2 have parts that are not computed here.
    for (field, wanted) in
        [("relative_attention", true), ("share_att_key", true), ("position_biased_input", false)]
    {
        if json.flag(field)? != wanted {
            return Err(json.wrong(field, format!("only {wanted} is supported, as in DeBERTa v3")));
        }
    }
    if let Some(width) = json.size("conv_kernel_size", 0..=1 << 10)?.filter(|&width| width > 0) {
        return Err(json.wrong("conv_kernel_size", format!("a convolution ({width}) is not supported")));
    }
    let config = Config::parse(json, &FIELDS)?;
    for field in ["embedding_size", "attention_head_size"] {
        let usual =
            if field == "embedding_size" { config.hidden_size } else { config.hidden_size / config.heads };
        if let Some(size) = json.size(field, 1..=1 << 20)?.filter(|&size| size != usual) {
            return Err(json.wrong(field, format!("only {usual} is supported here, not {size}")));
        }
    }
    let kinds = json.size("type_vocab_size", 0..=1 << 10)?.unwrap_or(0);
    let eps = json.positive("layer_norm_eps")?.unwrap_or(1e-7) as f32;
    let (by_query, by_key) = weighs(json)?;
    // −1 stands for an absent number.
    let given = |field: &str| match json.get(field).and_then(Value::as_i64) {
        Some(number) if number < 1 => Ok(None),
        _ => json.size(field, 1..=1 << 20),
    };
    let longest = given("max_relative_positions")?.unwrap_or(config.context_length);
    let buckets = given("position_buckets")?;
    if let Some(buckets) = buckets.filter(|&buckets| buckets < 4 || buckets / 2 + 1 >= longest) {
        let problem = format!("{buckets} cannot be shared by distances up to {longest}");
        return Err(json.wrong("position_buckets", problem));
    }
    let normed = json
        .text("norm_rel_ebd")?
        .is_some_and(|kinds| kinds.split('|').any(|kind| kind.trim() == "layer_norm"));
    let relative = Relative { buckets, longest, by_query, by_key, normed };
    Ok(Config { token_types: kinds, eps, positions: Positions::Relative(relative), ..config })
}

/// Which contents weigh distances: `pos_att_type`, a list or names with `|` between.
fn weighs(json: &JsonFile) -> Result<(bool, bool), ModelError> {
    let names: Vec<&str> = match json.get("pos_att_type") {
        None => Vec::new(),
        Some(Value::String(names)) => names.split('|').map(str::trim).collect(),
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().unwrap_or("?")).collect(),
        Some(other) => {
            return Err(json.wrong("pos_att_type", format!("must be a list of names, not {other}")));
        }
    };
    match names.iter().find(|name| !["c2p", "p2c"].contains(name)) {
        Some(name) => {
            Err(json.wrong("pos_att_type", format!("\"c2p\" and \"p2c\" are supported, not {name:?}")))
        }
        None => Ok((names.contains(&"c2p"), names.contains(&"p2c"))),
    }
}
