//! The shape of a decoder-only model: the numbers of its `config.json` that memory and time depend on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::HardwareError;

/// No published model has a larger side; products of a few of them stay far below 2^64.
const MAX_SIDE: u64 = 1 << 20;
/// No published model has more layers.
const MAX_LAYERS: u64 = 1000;
/// No published model sees further.
const MAX_CONTEXT: u64 = 1 << 24;

/// The shape of a decoder-only model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Decoder layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key-value heads.
    pub kv_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Width of the feed-forward layer.
    pub intermediate_size: u64,
    /// Entries of the vocabulary.
    pub vocab_size: u64,
    /// Whether the output projection is the embedding table.
    pub tied_embeddings: bool,
    /// The longest sequence in tokens.
    pub context_length: u64,
}

/// One of the linear layers of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Linear {
    /// As `target_modules` names it.
    pub name: &'static str,
    pub inputs: u64,
    pub outputs: u64,
}

impl ModelShape {
    /// The shape that a `config.json` from anywhere tells, in the field names of the Llama family.
    ///
    /// # Errors
    /// A field is missing, is no whole number, or is larger than any model's.
    pub fn from_config(config: &Value) -> Result<Self, HardwareError> {
        let hidden_size = required(config, "hidden_size", MAX_SIDE)?;
        let heads = required(config, "num_attention_heads", MAX_SIDE)?;
        let kv_heads = number(config, "num_key_value_heads", MAX_SIDE)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(wrong("num_key_value_heads", format!("{kv_heads} does not divide {heads} heads")));
        }
        let head_dim = match number(config, "head_dim", MAX_SIDE)? {
            Some(dim) => dim,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                let problem = format!("{heads} does not divide hidden_size {hidden_size}");
                return Err(wrong("num_attention_heads", problem));
            }
        };
        if heads * head_dim > MAX_SIDE {
            return Err(wrong("head_dim", format!("{heads} heads of {head_dim} are too wide")));
        }
        Ok(Self {
            hidden_size,
            layers: required(config, "num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            intermediate_size: required(config, "intermediate_size", MAX_SIDE)?,
            vocab_size: required(config, "vocab_size", MAX_SIDE)?,
            tied_embeddings: match config.get("tie_word_embeddings") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(tied)) => *tied,
                Some(_) => return Err(wrong("tie_word_embeddings", "must be true or false".into())),
            },
            context_length: required(config, "max_position_embeddings", MAX_CONTEXT)?,
        })
    }

    /// Parameters of a model of the Llama family with this shape; biases, which a few models have, are left out.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied_embeddings { 1 } else { 2 };
        self.layers * (self.layer_weights() + 2 * self.hidden_size)
            + tables * self.vocab_size * self.hidden_size
            + self.hidden_size
    }

    /// Elements of the linear layers of one decoder layer.
    pub(crate) fn layer_weights(&self) -> u64 {
        self.linears().iter().map(|linear| linear.inputs * linear.outputs).sum()
    }

    /// Width of all query heads together.
    pub(crate) fn query_width(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Width of all keys, and of all values.
    pub(crate) fn key_width(&self) -> u64 {
        self.kv_heads * self.head_dim
    }

    /// The linear layers of a decoder layer.
    pub(crate) fn linears(&self) -> [Linear; 7] {
        let (hidden, middle) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.query_width(), self.key_width());
        let linear = |name, inputs, outputs| Linear { name, inputs, outputs };
        [
            linear("q_proj", hidden, queries),
            linear("k_proj", hidden, keys),
            linear("v_proj", hidden, keys),
            linear("o_proj", queries, hidden),
            linear("gate_proj", hidden, middle),
            linear("up_proj", hidden, middle),
            linear("down_proj", middle, hidden),
        ]
    }
}

fn wrong(field: &'static str, problem: String) -> HardwareError {
    HardwareError::Config { field, problem }
}

fn number(config: &Value, field: &'static str, max: u64) -> Result<Option<u64>, HardwareError> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(n) if (1..=max).contains(&n) => Ok(Some(n)),
            _ => Err(wrong(field, format!("must be a whole number from 1 to {max}"))),
        },
    }
}

fn required(config: &Value, field: &'static str, max: u64) -> Result<u64, HardwareError> {
    number(config, field, max)?.ok_or_else(|| wrong(field, format!("must be a whole number from 1 to {max}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn llama() -> Value {
        json!({
            "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
            "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": true,
            "max_position_embeddings": 131072,
        })
    }

    #[test]
    fn a_published_config_gives_the_published_parameters() {
        let shape = ModelShape::from_config(&llama()).unwrap();
        assert_eq!(shape.parameters(), 1_235_814_400, "Llama 3.2 1B");
        let mut untied = llama();
        untied["tie_word_embeddings"] = json!(null);
        let more = ModelShape::from_config(&untied).unwrap().parameters() - shape.parameters();
        assert_eq!(more, 128_256 * 2048, "an output projection of its own counts");
    }

    #[test]
    fn what_a_config_leaves_out_is_as_in_the_family() {
        let mut config = llama();
        for field in ["num_key_value_heads", "head_dim"] {
            config.as_object_mut().unwrap().remove(field);
        }
        let shape = ModelShape::from_config(&config).unwrap();
        assert_eq!(
            (shape.kv_heads, shape.head_dim),
            (32, 64),
            "every head has its keys; heads share the width"
        );
    }

    #[test]
    fn hostile_configs_are_errors_that_name_the_field() {
        for (field, value) in [
            ("hidden_size", json!(0)),
            ("hidden_size", json!(u64::MAX)),
            ("num_hidden_layers", json!(1001)),
            ("num_attention_heads", json!("32")),
            ("num_key_value_heads", json!(7)),
            ("head_dim", json!(1 << 20)),
            ("intermediate_size", json!(-1)),
            ("vocab_size", json!(1.5)),
            ("vocab_size", json!(null)),
            ("max_position_embeddings", json!([4096])),
            ("tie_word_embeddings", json!("yes")),
        ] {
            let mut config = llama();
            config[field] = value.clone();
            match ModelShape::from_config(&config) {
                Err(HardwareError::Config { field: named, .. }) => assert_eq!(named, field, "{value}"),
                other => panic!("{field} {value} must be refused, not {other:?}"),
            }
        }
        for config in [json!(null), json!([]), json!({})] {
            assert!(ModelShape::from_config(&config).is_err(), "{config} is no config");
        }
    }
}
