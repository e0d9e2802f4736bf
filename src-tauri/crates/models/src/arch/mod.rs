//! The model families that can be loaded, by the name `config.json` gives in `architectures`.

pub mod llama;

use std::path::Path;

use candle_core::DType;
use serde_json::Value;
use types::{Provider, architecture::ModelKind};

use crate::{
    AnyModel, CausalLm, LoadOptions, ModelError, ModelInfo, Seq2SeqLm, SpanModel, export::gguf,
    json::JsonFile, weights::Weights,
};

/// A family of models.
pub struct Architecture {
    /// Its name in `architectures`.
    pub name: &'static str,
    /// Facts that the config alone tells.
    info: fn(&str, &JsonFile) -> Result<ModelInfo, ModelError>,
    /// Reads the config, takes its tensors and builds the model.
    build: Build,
    /// How llama.cpp names and lays out its tensors; `None` for a family that is not exported to GGUF.
    gguf: Option<fn(&JsonFile) -> Result<gguf::Layout, ModelError>>,
}

/// How a family's models are built, by their kind.
enum Build {
    /// Decoder-only.
    Causal(Builder<dyn CausalLm>),
    /// Encoder-decoder.
    Seq2Seq(Builder<dyn Seq2SeqLm>),
    /// An encoder that points at an answer.
    Span(Builder<dyn SpanModel>),
}

type Builder<M> = fn(&str, &JsonFile, Weights, Provider) -> Result<Box<M>, ModelError>;

impl Architecture {
    /// The kind of its models.
    pub fn kind(&self) -> ModelKind {
        match self.build {
            Build::Causal(_) => ModelKind::Causal,
            Build::Seq2Seq(_) => ModelKind::Seq2Seq,
            Build::Span(_) => ModelKind::Span,
        }
    }
}

/// Every family there is.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "LlamaForCausalLM",
        info: llama::info,
        build: Build::Causal(llama::build),
        gguf: Some(llama::gguf),
    },
    Architecture {
        name: "MistralForCausalLM",
        info: llama::info,
        build: Build::Causal(llama::build),
        gguf: Some(llama::gguf),
    },
];

/// `config.json` of the model in `folder` and the family it names.
fn find(folder: &Path) -> Result<(&'static Architecture, JsonFile), ModelError> {
    let json = JsonFile::read(&folder.join("config.json"))?;
    let named = match json.get("architectures") {
        Some(Value::Array(names)) if names.len() == 1 => names.first().and_then(Value::as_str),
        _ => None,
    };
    let named = named.ok_or_else(|| json.wrong("architectures", "must be a list of one name"))?;
    match ARCHITECTURES.iter().find(|a| a.name == named) {
        Some(architecture) => Ok((architecture, json)),
        None => Err(ModelError::UnknownArchitecture {
            path: json.path().to_owned(),
            found: named.chars().take(100).collect(),
            supported: ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Loads the model in `folder`: `config.json` and its safetensors files.
pub fn load(folder: &Path, options: &LoadOptions) -> Result<AnyModel, ModelError> {
    kernels::stop_busy_waiting();
    kernels::keep_freed_memory();
    kernels::Level::forced()?;
    let (architecture, json) = find(folder)?;
    let dtype = if options.bf16 { DType::BF16 } else { DType::F32 };
    let weights = Weights::open(folder, dtype, &options.device)?;
    let (name, provider) = (architecture.name, options.provider);
    Ok(match architecture.build {
        Build::Causal(build) => AnyModel::Causal(build(name, &json, weights, provider)?),
        Build::Seq2Seq(build) => AnyModel::Seq2Seq(build(name, &json, weights, provider)?),
        Build::Span(build) => AnyModel::Span(build(name, &json, weights, provider)?),
    })
}

/// What `config.json` alone tells of the model in `folder`, without reading its weights; `dtype` is that of loading
/// without bf16.
pub fn read_info(folder: &Path) -> Result<ModelInfo, ModelError> {
    let (architecture, json) = find(folder)?;
    (architecture.info)(architecture.name, &json)
}

/// How the model in `folder` is written as GGUF.
pub(crate) fn gguf_layout(folder: &Path) -> Result<gguf::Layout, ModelError> {
    let (architecture, json) = find(folder)?;
    let Some(layout) = architecture.gguf else {
        let with =
            ARCHITECTURES.iter().filter(|a| a.gguf.is_some()).map(|a| a.name).collect::<Vec<_>>().join(", ");
        let name = architecture.name;
        return Err(ModelError::Export(format!(
            "{name} models cannot be exported to GGUF; {with} can. Export as safetensors instead"
        )));
    };
    layout(&json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_offers_what_can_be_loaded() {
        let here: Vec<_> = ARCHITECTURES.iter().map(|a| (a.name, a.kind())).collect();
        let offered: Vec<_> = types::architecture::TRAINABLE.iter().map(|a| (a.name, a.kind)).collect();
        assert_eq!(here, offered, "the list in types names every family, in its order");
    }
}
