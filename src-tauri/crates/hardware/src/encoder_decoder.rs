//! The shape of encoder-decoders: what their `config.json` tells, and the two stacks of layers that it means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    HardwareError, ModelShape,
    families::{Fields, missing},
    shape::{LinearLayers, MAX_CONTEXT, MAX_LAYERS, MAX_SIDE},
};

/// What an encoder-decoder has before its decoder. Its width and its heads' width are the decoder's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
    /// Layers.
    pub layers: u64,
    /// Heads.
    pub heads: u64,
    /// Width of the feed-forward layer.
    pub intermediate_size: u64,
}

impl EncoderShape {
    /// The encoder alone, as if it were a model.
    pub(crate) fn stack(&self, decoder: &ModelShape) -> ModelShape {
        ModelShape {
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: decoder.query_width() / self.heads.max(1),
            intermediate_size: self.intermediate_size,
            linear_layers: match decoder.linear_layers {
                LinearLayers::T5Decoder => LinearLayers::T5Encoder,
                LinearLayers::GatedT5Decoder => LinearLayers::GatedT5Encoder,
                LinearLayers::BartDecoder => LinearLayers::BartEncoder,
                other => other,
            },
            encoder: None,
            ..decoder.clone()
        }
    }
}

/// Whether the config of this architecture is read here.
pub(crate) fn has(architecture: &str) -> bool {
    architecture.starts_with("T5") || architecture.starts_with("Bart")
}

/// The shape that a `config.json` of T5's or BART's family tells.
pub(crate) fn from_config(config: &Value, architecture: &str) -> Result<ModelShape, HardwareError> {
    let fields = Fields { text: config, usual: &[("n_positions", 512)] };
    if architecture.starts_with("T5") { t5(&fields) } else { bart(&fields) }
}

fn t5(fields: &Fields<'_>) -> Result<ModelShape, HardwareError> {
    let gated = fields.text.get("feed_forward_proj").and_then(Value::as_str) == Some("gated-gelu");
    let tied = fields.text.get("tie_word_embeddings").and_then(Value::as_bool) != Some(false);
    let layers = fields.required("num_layers", MAX_LAYERS)?;
    let heads = fields.required("num_heads", MAX_SIDE)?;
    let intermediate_size = fields.required("d_ff", MAX_SIDE)?;
    let shape = ModelShape {
        hidden_size: fields.required("d_model", MAX_SIDE)?,
        layers: fields.number("num_decoder_layers", MAX_LAYERS)?.unwrap_or(layers),
        heads,
        kv_heads: heads,
        head_dim: fields.required("d_kv", MAX_SIDE)?,
        intermediate_size,
        vocab_size: fields.required("vocab_size", MAX_SIDE)?,
        tied_embeddings: tied,
        context_length: fields.required("n_positions", MAX_CONTEXT)?,
        linear_layers: if gated { LinearLayers::GatedT5Decoder } else { LinearLayers::T5Decoder },
        reference_only: true,
        encoder: Some(EncoderShape { layers, heads, intermediate_size }),
        ..ModelShape::default()
    };
    if shape.query_width() > MAX_SIDE {
        return Err(missing("d_kv", MAX_SIDE / heads));
    }
    let buckets = fields.number("relative_attention_num_buckets", MAX_SIDE)?.unwrap_or(32);
    // A norm after each stack, of which one is counted with the tables; a third norm in each layer of the decoder; a bias
    // for each bucket and head of each stack.
    let further_parameters = shape.hidden_size + shape.layers * shape.hidden_size + 2 * buckets * heads;
    Ok(ModelShape { further_parameters, ..shape })
}

fn bart(fields: &Fields<'_>) -> Result<ModelShape, HardwareError> {
    let hidden_size = fields.required("d_model", MAX_SIDE)?;
    let heads = fields.required("decoder_attention_heads", MAX_SIDE)?;
    if !hidden_size.is_multiple_of(heads) {
        let problem = format!("{heads} does not divide d_model {hidden_size}");
        return Err(HardwareError::Config { field: "decoder_attention_heads", problem });
    }
    let encoder = EncoderShape {
        layers: fields.required("encoder_layers", MAX_LAYERS)?,
        heads: fields.required("encoder_attention_heads", MAX_SIDE)?,
        intermediate_size: fields.required("encoder_ffn_dim", MAX_SIDE)?,
    };
    let shape = ModelShape {
        hidden_size,
        layers: fields.required("decoder_layers", MAX_LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: fields.required("decoder_ffn_dim", MAX_SIDE)?,
        vocab_size: fields.required("vocab_size", MAX_SIDE)?,
        tied_embeddings: true,
        context_length: fields.required("max_position_embeddings", MAX_CONTEXT)?,
        linear_layers: LinearLayers::BartDecoder,
        reference_only: true,
        ..ModelShape::default()
    };
    // Norms with a bias: each counts twice; biases of all linear layers; two tables of positions with a norm each, of which
    // half of one is counted with the embeddings.
    let positions = 2 * ((shape.context_length + 2) * hidden_size + 2 * hidden_size) - hidden_size;
    let of_encoder = encoder.layers * (2 * hidden_size + 5 * hidden_size + encoder.intermediate_size);
    let of_decoder = shape.layers * (4 * hidden_size + 9 * hidden_size + shape.intermediate_size);
    let further_parameters = positions + of_encoder + of_decoder;
    Ok(ModelShape { further_parameters, encoder: Some(encoder), ..shape })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn t5(changes: Value) -> Value {
        let mut config = json!({
            "architectures": ["T5ForConditionalGeneration"], "d_model": 512, "d_kv": 64, "d_ff": 2048,
            "num_layers": 6, "num_heads": 8, "vocab_size": 32128, "n_positions": 512,
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    }

    fn bart(changes: Value) -> Value {
        let mut config = json!({
            "architectures": ["BartForConditionalGeneration"], "d_model": 1024, "encoder_layers": 12,
            "decoder_layers": 6, "encoder_attention_heads": 16, "decoder_attention_heads": 16,
            "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096, "vocab_size": 50264,
            "max_position_embeddings": 1024,
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    }

    #[test]
    fn published_configs_give_the_published_parameters() {
        let flan = json!({"feed_forward_proj": "gated-gelu", "tie_word_embeddings": false});
        let with = |more: Value| {
            let mut flan = flan.clone();
            flan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            t5(flan)
        };
        let base = json!({"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
            "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 50265,
            "architectures": ["BartModel"]});
        for (name, config, parameters) in [
            ("t5-small", t5(json!({})), 60_506_624),
            ("flan-t5-small", with(json!({"num_layers": 8, "num_heads": 6, "d_ff": 1024})), 76_961_152),
            ("flan-t5-base", with(json!({"d_model": 768, "num_layers": 12, "num_heads": 12})), 247_577_856),
            (
                "flan-t5-large",
                with(json!({"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16})),
                783_150_080,
            ),
            ("bart-base", bart(base), 139_420_416),
            ("distilbart-cnn-12-6", bart(json!({})), 305_510_400),
        ] {
            assert_eq!(ModelShape::from_config(&config).unwrap().parameters(), parameters, "{name}");
        }
    }

    #[test]
    fn bad_configs_name_the_field() {
        for (config, field) in [
            (t5(json!({"d_model": 0})), "d_model"),
            (t5(json!({"num_layers": "six"})), "num_layers"),
            (t5(json!({"d_kv": 1 << 20})), "d_kv"),
            (bart(json!({"decoder_attention_heads": 7})), "decoder_attention_heads"),
            (bart(json!({"encoder_ffn_dim": null})), "encoder_ffn_dim"),
        ] {
            match ModelShape::from_config(&config) {
                Err(HardwareError::Config { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{field} must be refused, not {other:?}"),
            }
        }
    }
}
