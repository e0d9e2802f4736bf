//! What families of decoder-only models have in other words, or beside what all have, in their `config.json`.

use serde_json::Value;

use crate::{HardwareError, ModelShape, shape::LinearLayers};

/// Names of fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub hidden: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub middle: &'static str,
    pub context: &'static str,
}

const USUAL: Names = Names {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    middle: "intermediate_size",
    context: "max_position_embeddings",
};

/// Whether a field is true or false, where it is there.
type Flags<'a> = &'a dyn Fn(&str) -> Option<bool>;

/// A family's way of telling its shape.
pub(crate) struct Family {
    pub names: Names,
    /// What it is where the config has no such field.
    pub usual: &'static [(&'static str, u64)],
    /// Whether the output projection is the embedding table where the config does not say.
    pub tied: bool,
    pub linear_layers: LinearLayers,
    /// Parameters beside those of linear layers, tables and two norms a layer.
    pub further: fn(&ModelShape, Flags) -> u64,
}

/// Heads of both versions of Gemma.
const GEMMA_HEADS: [(&str, u64); 3] =
    [("num_attention_heads", 8), ("num_key_value_heads", 4), ("head_dim", 256)];

const GEMMA3: [(&str, u64); 8] = [
    GEMMA_HEADS[0],
    GEMMA_HEADS[1],
    GEMMA_HEADS[2],
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("max_position_embeddings", 131_072),
];

const MISTRAL3: [(&str, u64); 8] = [
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("vocab_size", 131_072),
    ("hidden_size", 5120),
    ("intermediate_size", 32_768),
    ("num_hidden_layers", 40),
    ("max_position_embeddings", 131_072),
];

impl Family {
    /// The family of an architecture; of one that is not known here, the Llama family.
    pub(crate) fn of(architecture: &str) -> Self {
        let llama = Family {
            names: USUAL,
            usual: &[],
            tied: false,
            linear_layers: LinearLayers::Separate,
            further: |s, flag| s.layers * (attention_biases(s, flag("attention_bias")) + mlp_biases(s, flag)),
        };
        match architecture {
            "Mistral3ForConditionalGeneration" => Family { usual: &MISTRAL3, ..llama },
            "Qwen2ForCausalLM" => Family { further: |s, _| s.layers * qkv_biases(s), ..llama },
            "Qwen3ForCausalLM" => Family {
                further: |s, flag| s.layers * (2 * s.head_dim + attention_biases(s, flag("attention_bias"))),
                ..llama
            },
            "SmolLM3ForCausalLM" => Family { tied: true, ..llama },
            "Gemma2ForCausalLM" => Family {
                usual: &GEMMA_HEADS,
                tied: true,
                further: |s, flag| {
                    s.layers * (2 * s.hidden_size + attention_biases(s, flag("attention_bias")))
                },
                ..llama
            },
            "Gemma3ForCausalLM" | "Gemma3ForConditionalGeneration" => Family {
                usual: &GEMMA3,
                tied: true,
                further: |s, flag| {
                    let norms = 2 * s.hidden_size + 2 * s.head_dim;
                    s.layers * (norms + attention_biases(s, flag("attention_bias")))
                },
                ..llama
            },
            "Phi3ForCausalLM" => Family { linear_layers: LinearLayers::Joined, further: |_, _| 0, ..llama },
            "GPTJForCausalLM" => Family {
                names: Names {
                    hidden: "n_embd",
                    layers: "n_layer",
                    heads: "n_head",
                    middle: "n_inner",
                    context: "n_positions",
                },
                linear_layers: LinearLayers::Ungated,
                // Weight and bias of one norm are as many as two norms of others.
                further: |s, _| {
                    s.layers * (s.intermediate_size + s.hidden_size) + s.hidden_size + s.vocab_size
                },
                ..llama
            },
            "GptOssForCausalLM" => Family {
                linear_layers: LinearLayers::AttentionOnly,
                further: |s, flag| {
                    let attention = attention_biases(s, flag("attention_bias").or(Some(true))) + s.heads;
                    let router = s.experts * (s.hidden_size + 1);
                    let biases = s.experts * (2 * s.intermediate_size + s.hidden_size);
                    s.layers * (attention + router + biases)
                },
                ..llama
            },
            _ => llama,
        }
    }
}

fn qkv_biases(s: &ModelShape) -> u64 {
    s.query_width() + 2 * s.key_width()
}

fn attention_biases(s: &ModelShape, on: Option<bool>) -> u64 {
    if on == Some(true) { qkv_biases(s) + s.hidden_size } else { 0 }
}

fn mlp_biases(s: &ModelShape, flag: Flags) -> u64 {
    if flag("mlp_bias") == Some(true) { 2 * s.intermediate_size + s.hidden_size } else { 0 }
}

/// The whole numbers of a config.
pub(crate) struct Fields<'a> {
    pub text: &'a Value,
    /// What is taken for those that are not there.
    pub usual: &'static [(&'static str, u64)],
}

impl Fields<'_> {
    /// A number up to `max`.
    pub(crate) fn number(&self, field: &'static str, max: u64) -> Result<Option<u64>, HardwareError> {
        match self.text.get(field) {
            None | Some(Value::Null) => {
                Ok(self.usual.iter().find(|(name, _)| *name == field).map(|(_, usual)| *usual))
            }
            Some(value) => match value.as_u64() {
                Some(n) if (1..=max).contains(&n) => Ok(Some(n)),
                _ => Err(missing(field, max)),
            },
        }
    }

    /// The same where there must be one.
    pub(crate) fn required(&self, field: &'static str, max: u64) -> Result<u64, HardwareError> {
        self.number(field, max)?.ok_or_else(|| missing(field, max))
    }
}

/// A field that is not there, or no such number.
pub(crate) fn missing(field: &'static str, max: u64) -> HardwareError {
    HardwareError::Config { field, problem: format!("must be a whole number from 1 to {max}") }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn golden() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden")
    }

    /// Parameters of a model by its files: of the parts that read text, each once.
    fn stored(folder: &std::path::Path, tied: bool) -> u64 {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let weights =
            files.filter(|path| named(path).starts_with("model") && named(path).ends_with(".safetensors"));
        let mut sum = 0;
        for file in weights {
            let bytes = fs::read(file).unwrap();
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            for (name, tensor) in header.as_object().unwrap() {
                let image = name.starts_with("vision_tower") || name.starts_with("multi_modal_projector");
                let again = tied && name.ends_with("lm_head.weight");
                if name != "__metadata__" && !image && !again {
                    let sides = tensor["shape"].as_array().unwrap().iter();
                    sum += sides.map(|side| side.as_u64().unwrap()).product::<u64>();
                }
            }
        }
        sum
    }

    #[test]
    fn the_parameters_of_every_family_are_those_of_its_files() {
        let mut seen = 0;
        for folder in fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(config) = fs::read(folder.join("config.json")) else { continue };
            let config: Value = serde_json::from_slice(&config).unwrap();
            let name = config["architectures"][0].as_str().unwrap();
            let known = types::architecture::find(name);
            if known.is_none_or(|known| known.kind != types::architecture::ModelKind::Causal) {
                continue;
            }
            let shape = ModelShape::from_config(&config).unwrap();
            assert_eq!(
                shape.parameters(),
                stored(&folder, shape.tied_embeddings),
                "{}: {shape:?}",
                folder.display()
            );
            seen += 1;
        }
        assert!(seen >= 15, "only {seen} tiny models were found");
    }
}
