//! The shape of encoders that point at answers: what their `config.json` tells.

use serde_json::Value;

use crate::{
    HardwareError, ModelShape,
    families::{Fields, missing},
    shape::{LinearLayers, MAX_CONTEXT, MAX_LAYERS, MAX_SIDE},
};

/// How a family's config and linear layers are called, and what it has beside the layers.
struct Family {
    /// What its architectures begin with.
    begins: &'static str,
    hidden: &'static str,
    layers: &'static str,
    heads: &'static str,
    middle: &'static str,
    linear_layers: LinearLayers,
    /// Rows that tables other than the vocabulary have, and the longest sequence.
    tables: fn(&Fields<'_>) -> Result<Tables, HardwareError>,
}

struct Tables {
    rows: u64,
    context_length: u64,
}

const BERT: Family = Family {
    begins: "Bert",
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    middle: "intermediate_size",
    linear_layers: LinearLayers::Bert,
    tables: |fields| {
        let places = fields.required("max_position_embeddings", MAX_CONTEXT)?;
        let kinds = fields.number("type_vocab_size", MAX_SIDE)?.unwrap_or(2);
        Ok(Tables { rows: places + kinds, context_length: places })
    },
};

const FAMILIES: [Family; 4] = [
    BERT,
    Family {
        begins: "Roberta",
        tables: |fields| {
            let places = fields.required("max_position_embeddings", MAX_CONTEXT)?;
            let kinds = fields.number("type_vocab_size", MAX_SIDE)?.unwrap_or(1);
            // Places begin after that of the padding token.
            let first =
                fields.text.get("pad_token_id").and_then(Value::as_u64).unwrap_or(1).saturating_add(1);
            let context_length = places.checked_sub(first).filter(|&length| length > 0);
            let context_length =
                context_length.ok_or_else(|| missing("max_position_embeddings", MAX_CONTEXT))?;
            Ok(Tables { rows: places + kinds, context_length })
        },
        ..BERT
    },
    Family {
        begins: "DistilBert",
        hidden: "dim",
        layers: "n_layers",
        heads: "n_heads",
        middle: "hidden_dim",
        linear_layers: LinearLayers::DistilBert,
        tables: |fields| {
            let places = fields.required("max_position_embeddings", MAX_CONTEXT)?;
            Ok(Tables { rows: places, context_length: places })
        },
    },
    Family {
        begins: "DebertaV2",
        linear_layers: LinearLayers::Deberta,
        tables: |fields| {
            let context_length = fields.required("max_position_embeddings", MAX_CONTEXT)?;
            // −1 stands for an absent number.
            let given = |field: &str| fields.text.get(field).and_then(Value::as_u64).filter(|&n| n > 0);
            let span =
                given("position_buckets").or(given("max_relative_positions")).unwrap_or(context_length);
            // The table of distances has a norm of its own.
            Ok(Tables { rows: 2 * span.min(MAX_SIDE) + 2, context_length })
        },
        ..BERT
    },
];

fn family(architecture: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| architecture.starts_with(family.begins))
}

/// Whether the config of this architecture is read here.
pub(crate) fn has(architecture: &str) -> bool {
    family(architecture).is_some()
}

/// The shape that a `config.json` of such a family tells, its head included.
pub(crate) fn from_config(config: &Value, architecture: &str) -> Result<ModelShape, HardwareError> {
    let family = family(architecture).unwrap_or(&BERT);
    let fields = Fields { text: config, usual: &[] };
    let hidden_size = fields.required(family.hidden, MAX_SIDE)?;
    let heads = fields.required(family.heads, MAX_SIDE)?;
    if !hidden_size.is_multiple_of(heads) {
        let problem = format!("{heads} does not divide {} {hidden_size}", family.hidden);
        return Err(HardwareError::Config { field: family.heads, problem });
    }
    let Tables { rows, context_length } = (family.tables)(&fields)?;
    let shape = ModelShape {
        hidden_size,
        layers: fields.required(family.layers, MAX_LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: fields.required(family.middle, MAX_SIDE)?,
        vocab_size: fields.required("vocab_size", MAX_SIDE)?,
        tied_embeddings: true,
        context_length,
        linear_layers: family.linear_layers,
        reference_only: true,
        ..ModelShape::default()
    };
    // Norms have a bias, and so count twice; biases of all linear layers; a norm of the embeddings, half of which is counted
    // with the vocabulary.
    let layer = 2 * hidden_size + 5 * hidden_size + shape.intermediate_size;
    let further_parameters = shape.layers * layer + (rows + 1) * hidden_size + head(hidden_size);
    Ok(ModelShape { further_parameters, ..shape })
}

/// Parameters of the head: beginning and end of an answer, with a bias.
pub(crate) fn head(hidden_size: u64) -> u64 {
    2 * (hidden_size + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bert(changes: Value) -> Value {
        let mut config = json!({
            "architectures": ["BertForMaskedLM"], "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "intermediate_size": 3072, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2,
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    }

    #[test]
    fn published_configs_give_the_published_parameters() {
        let roberta = json!({"architectures": ["RobertaForQuestionAnswering"], "vocab_size": 50265,
            "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1});
        let distilbert = json!({"architectures": ["DistilBertForQuestionAnswering"], "dim": 768, "n_layers": 6,
            "n_heads": 12, "hidden_dim": 3072, "vocab_size": 28996, "max_position_embeddings": 512});
        for (name, config, parameters) in [
            // Of transformers' BertForQuestionAnswering: the base without its pooler, and the head.
            ("bert-base-uncased", bert(json!({})), 108_893_186),
            ("roberta-base-squad2", bert(roberta), 124_056_578),
            ("distilbert-base-cased-distilled-squad", distilbert, 65_192_450),
        ] {
            let shape = ModelShape::from_config(&config).unwrap();
            assert_eq!((shape.parameters(), shape.context_length), (parameters, 512), "{name}");
        }
    }

    #[test]
    fn bad_configs_name_the_field() {
        for (changes, field) in [
            (json!({"hidden_size": 0}), "hidden_size"),
            (json!({"num_attention_heads": 7}), "num_attention_heads"),
            (json!({"vocab_size": null}), "vocab_size"),
            (json!({"max_position_embeddings": "512"}), "max_position_embeddings"),
            (json!({"architectures": ["RobertaModel"], "pad_token_id": 600}), "max_position_embeddings"),
            (json!({"architectures": ["DistilBertModel"]}), "dim"),
        ] {
            match ModelShape::from_config(&bert(changes)) {
                Err(HardwareError::Config { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{field} must be refused, not {other:?}"),
            }
        }
    }
}
