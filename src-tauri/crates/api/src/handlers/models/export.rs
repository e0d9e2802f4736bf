//! `models_export`.

use std::sync::Arc;

pub use types::export::ExportItem as Output;
use types::{
    ApiError, ExportDtype, ExportFormat,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::{Api, Export, Items};

fields! {
    /// A finished model and what is made of it.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "The model's id.";
        format: ExportFormat, Kind::Choice { values: ExportFormat::NAMES }, Fallback::Required, "safetensors: a whole model as transformers writes it, the adapter merged into its weights. gguf: one file for llama.cpp and the programs built on it.";
        dtype: Option<ExportDtype>, Kind::Choice { values: ExportDtype::NAMES }, Fallback::Found("that of the base model"), "How the weights are stored; q8_0 is for gguf.";
        folder: Option<String>, Kind::Text, Fallback::Found("exports in the app's data folder"), "Absolute path of the folder in which the export gets a folder of its own.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The export's folder is named after the model and the format, with a number where that name is taken: nothing is ever
/// overwritten. A caller that goes away ends the export, and nothing of it stays.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Items, ApiError> {
    let export = Export {
        model_id: input.model_id,
        format: input.format,
        dtype: input.dtype,
        folder: input.folder.map(Into::into),
    };
    api.export(export).await
}
