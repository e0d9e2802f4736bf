//! The shape of a decoder-only model: the numbers of its `config.json` that memory and time depend on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    HardwareError, encoder,
    encoder_decoder::{self, EncoderShape},
    families::{Family, Fields, missing},
};

/// No published model has a larger side; products of a few of them stay far below 2^64.
pub(crate) const MAX_SIDE: u64 = 1 << 20;
/// No published model has more layers.
pub(crate) const MAX_LAYERS: u64 = 1000;
/// No published model sees further.
pub(crate) const MAX_CONTEXT: u64 = 1 << 24;

/// How a family cuts the linear layers of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinearLayers {
    /// q, k, v, o, gate, up and down: Llama and most others.
    #[default]
    Separate,
    /// q, k and v in one, gate and up in one: Phi-3.
    Joined,
    /// No gate: GPT-J.
    Ungated,
    /// q, k, v and o; the feed-forward part is a mixture of experts, which have no adapters: gpt-oss.
    AttentionOnly,
    /// q, k, v and o, wi and wo: the encoder of T5.
    T5Encoder,
    /// q, k, v and o twice, wi and wo: the decoder of T5.
    T5Decoder,
    /// q, k, v and o, wi_0, wi_1 and wo: the encoder of FLAN-T5.
    GatedT5Encoder,
    /// q, k, v and o twice, wi_0, wi_1 and wo: the decoder of FLAN-T5.
    GatedT5Decoder,
    /// q, k, v and out, fc1 and fc2: the encoder of BART.
    BartEncoder,
    /// q, k, v and out twice, fc1 and fc2: the decoder of BART.
    BartDecoder,
    /// query, key, value and three called dense: BERT and RoBERTa.
    Bert,
    /// q_lin, k_lin, v_lin, out_lin, lin1 and lin2: DistilBERT.
    DistilBert,
    /// query_proj, key_proj, value_proj and three called dense: DeBERTa.
    Deberta,
}

/// The shape of a decoder-only model, of an encoder that points at answers, or of the decoder of an encoder-decoder with its
/// encoder beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// How its linear layers are cut.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub linear_layers: LinearLayers,
    /// Experts of each layer; 0 where there is no mixture.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub experts: u64,
    /// How many of them take part in a token.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub experts_per_token: u64,
    /// Parameters beside those of the linear layers, the tables and two norms a layer: biases, further norms, routers.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub further_parameters: u64,
    /// Whether its layers are computed by the reference alone.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub reference_only: bool,
    /// The encoder of an encoder-decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderShape>,
}

/// Whether a field says nothing that most models do not.
fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// The shape that a `config.json` from anywhere tells.
    ///
    /// # Errors
    /// A field is missing, is no whole number, or is larger than any model's.
    pub fn from_config(config: &Value) -> Result<Self, HardwareError> {
        let architecture = config.pointer("/architectures/0").and_then(Value::as_str).unwrap_or_default();
        if encoder_decoder::has(architecture) {
            return encoder_decoder::from_config(config, architecture);
        }
        if encoder::has(architecture) {
            return encoder::from_config(config, architecture);
        }
        let family = Family::of(architecture);
        // A model for texts and images has the shape of its text part one object further in.
        let text = config.get("text_config").filter(|text| text.is_object()).unwrap_or(config);
        let fields = Fields { text, usual: family.usual };
        let names = family.names;
        let hidden_size = fields.required(names.hidden, MAX_SIDE)?;
        let heads = fields.required(names.heads, MAX_SIDE)?;
        let kv_heads = fields.number("num_key_value_heads", MAX_SIDE)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(wrong("num_key_value_heads", format!("{kv_heads} does not divide {heads} heads")));
        }
        let head_dim = match fields.number("head_dim", MAX_SIDE)? {
            Some(dim) => dim,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                let problem = format!("{heads} does not divide {} {hidden_size}", names.hidden);
                return Err(wrong(names.heads, problem));
            }
        };
        if heads * head_dim > MAX_SIDE {
            return Err(wrong("head_dim", format!("{heads} heads of {head_dim} are too wide")));
        }
        let intermediate_size = match fields.number(names.middle, MAX_SIDE)? {
            None if family.linear_layers == LinearLayers::Ungated => 4 * hidden_size,
            size => size.ok_or_else(|| missing(names.middle, MAX_SIDE))?,
        };
        let tied = |config: &Value| match config.get("tie_word_embeddings") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(tied)) => Ok(Some(*tied)),
            Some(_) => Err(wrong("tie_word_embeddings", "must be true or false".into())),
        };
        let experts = match family.linear_layers {
            LinearLayers::AttentionOnly => fields.required("num_local_experts", MAX_SIDE)?,
            _ => 0,
        };
        let experts_per_token = match experts {
            0 => 0,
            _ => fields.number("num_experts_per_tok", MAX_SIDE)?.unwrap_or(4).min(experts),
        };
        let shape = Self {
            hidden_size,
            layers: fields.required(names.layers, MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            intermediate_size,
            vocab_size: fields.required("vocab_size", MAX_SIDE)?,
            tied_embeddings: tied(config)?.or(tied(text)?).unwrap_or(family.tied),
            context_length: fields.required(names.context, MAX_CONTEXT)?,
            linear_layers: family.linear_layers,
            experts,
            experts_per_token,
            further_parameters: 0,
            reference_only: types::architecture::find(architecture).is_some_and(|a| !a.fused),
            encoder: None,
        };
        let flag = |field: &str| text.get(field).and_then(Value::as_bool);
        let further_parameters = (family.further)(&shape, &flag);
        Ok(Self { further_parameters, ..shape })
    }

    /// Parameters of a model of this shape.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied_embeddings { 1 } else { 2 };
        let experts = self.experts.saturating_mul(self.expert_weights());
        let layers = |stack: &Self| {
            stack
                .layers
                .saturating_mul(experts.saturating_add(stack.linear_weights() + 2 * stack.hidden_size))
        };
        let stacks = self.stacks();
        stacks
            .iter()
            .map(layers)
            .fold(0, u64::saturating_add)
            .saturating_add(tables * self.vocab_size * self.hidden_size + self.hidden_size)
            .saturating_add(self.further_parameters)
    }

    /// The stacks of layers, each as a model of its own: the encoder, where there is one, and the decoder.
    pub(crate) fn stacks(&self) -> Vec<Self> {
        let encoder = self.encoder.as_ref().map(|encoder| encoder.stack(self));
        encoder.into_iter().chain([Self { encoder: None, ..self.clone() }]).collect()
    }

    /// Elements of the linear layers of one decoder layer that a token is multiplied by.
    pub(crate) fn layer_weights(&self) -> u64 {
        let routers = self.experts.saturating_mul(self.hidden_size);
        let experts = self.experts_per_token.saturating_mul(self.expert_weights());
        self.linear_weights().saturating_add(experts).saturating_add(routers)
    }

    /// Elements of the linear layers of one decoder layer, without experts.
    pub(crate) fn linear_weights(&self) -> u64 {
        self.linears().iter().map(|linear| linear.inputs * linear.outputs).sum()
    }

    /// Elements of the three linear layers of one expert.
    fn expert_weights(&self) -> u64 {
        3 * self.hidden_size * self.intermediate_size
    }

    /// Values that the experts make of one token.
    pub(crate) fn expert_values(&self) -> u64 {
        self.experts_per_token.saturating_mul(3 * self.intermediate_size + 2 * self.hidden_size)
    }

    /// How often a layer attends: to its own sequence, and in a decoder to that of its encoder.
    pub(crate) fn attentions(&self) -> u64 {
        match self.linear_layers {
            LinearLayers::T5Decoder | LinearLayers::GatedT5Decoder | LinearLayers::BartDecoder => 2,
            _ => 1,
        }
    }

    /// Parameters of a layer that is trained as a whole beside the adapter: the head of a model that points at answers.
    pub(crate) fn trained_head(&self) -> u64 {
        if self.writes() { 0 } else { encoder::head(self.hidden_size) }
    }

    /// Whether it writes text: then it has a loss over its vocabulary, and a cache in a chat.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.linear_layers, LinearLayers::Bert | LinearLayers::DistilBert | LinearLayers::Deberta)
    }

    /// Width of all query heads together.
    pub(crate) fn query_width(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Width of all keys, and of all values.
    pub(crate) fn key_width(&self) -> u64 {
        self.kv_heads * self.head_dim
    }

    /// The linear layers of a decoder layer that adapters are put on.
    pub(crate) fn linears(&self) -> Vec<Linear> {
        let (hidden, middle) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.query_width(), self.key_width());
        let linear = |name, inputs, outputs| Linear { name, inputs, outputs };
        let down = linear("down_proj", middle, hidden);
        let gated = [linear("gate_proj", hidden, middle), linear("up_proj", hidden, middle), down];
        let attention = |out| {
            vec![
                linear("q_proj", hidden, queries),
                linear("k_proj", hidden, keys),
                linear("v_proj", hidden, keys),
                linear(out, queries, hidden),
            ]
        };
        let plain = |into, out| vec![linear(into, hidden, middle), linear(out, middle, hidden)];
        let t5 = || {
            vec![
                linear("q", hidden, queries),
                linear("k", hidden, keys),
                linear("v", hidden, keys),
                linear("o", queries, hidden),
            ]
        };
        let named = |names: [&'static str; 6]| {
            let [q, k, v, out, into, back] = names;
            let four = vec![
                linear(q, hidden, queries),
                linear(k, hidden, keys),
                linear(v, hidden, keys),
                linear(out, queries, hidden),
            ];
            [four, plain(into, back)].concat()
        };
        let gated_t5 = || [vec![linear("wi_0", hidden, middle)], plain("wi_1", "wo")].concat();
        match self.linear_layers {
            LinearLayers::Separate => [attention("o_proj"), gated.into()].concat(),
            LinearLayers::Joined => vec![
                linear("qkv_proj", hidden, queries + 2 * keys),
                linear("o_proj", queries, hidden),
                linear("gate_up_proj", hidden, 2 * middle),
                down,
            ],
            LinearLayers::Ungated => {
                let both = [linear("fc_in", hidden, middle), linear("fc_out", middle, hidden)];
                [attention("out_proj"), both.into()].concat()
            }
            LinearLayers::AttentionOnly => attention("o_proj"),
            LinearLayers::T5Encoder => [t5(), plain("wi", "wo")].concat(),
            LinearLayers::T5Decoder => [t5(), t5(), plain("wi", "wo")].concat(),
            LinearLayers::GatedT5Encoder => [t5(), gated_t5()].concat(),
            LinearLayers::GatedT5Decoder => [t5(), t5(), gated_t5()].concat(),
            LinearLayers::BartEncoder => [attention("out_proj"), plain("fc1", "fc2")].concat(),
            LinearLayers::BartDecoder => {
                [attention("out_proj"), attention("out_proj"), plain("fc1", "fc2")].concat()
            }
            LinearLayers::Bert => named(["query", "key", "value", "dense", "dense", "dense"]),
            LinearLayers::DistilBert => named(["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"]),
            LinearLayers::Deberta => {
                named(["query_proj", "key_proj", "value_proj", "dense", "dense", "dense"])
            }
        }
    }
}

fn wrong(field: &'static str, problem: String) -> HardwareError {
    HardwareError::Config { field, problem }
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
