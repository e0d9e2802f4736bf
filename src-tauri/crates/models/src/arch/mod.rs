//! The model families that can be loaded, by the name `config.json` gives in `architectures`.

pub mod llama;

use std::path::Path;

use candle_core::DType;
use serde_json::Value;

use crate::{CausalLm, LoadOptions, ModelError, json::JsonFile, weights::Weights};

/// A family of models.
pub struct Architecture {
    /// Its name in `architectures`.
    pub name: &'static str,
    /// Reads the config, takes its tensors and builds the model.
    build: fn(&str, &JsonFile, Weights) -> Result<Box<dyn CausalLm>, ModelError>,
}

/// Every family there is.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "LlamaForCausalLM", build: llama::build },
    Architecture { name: "MistralForCausalLM", build: llama::build },
];

pub(crate) fn load(folder: &Path, options: &LoadOptions) -> Result<Box<dyn CausalLm>, ModelError> {
    let json = JsonFile::read(&folder.join("config.json"))?;
    let named = match json.get("architectures") {
        Some(Value::Array(names)) if names.len() == 1 => names.first().and_then(Value::as_str),
        _ => None,
    };
    let named = named.ok_or_else(|| json.wrong("architectures", "must be a list of one name"))?;
    let Some(architecture) = ARCHITECTURES.iter().find(|a| a.name == named) else {
        let supported: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
        return Err(ModelError::UnknownArchitecture {
            path: json.path().to_owned(),
            found: named.chars().take(100).collect(),
            supported: supported.join(", "),
        });
    };
    let dtype = if options.bf16 { DType::BF16 } else { DType::F32 };
    (architecture.build)(named, &json, Weights::open(folder, dtype, &options.device)?)
}
