//! What can be wrong with a model's or an adapter's files.

use std::path::PathBuf;

/// A model or adapter cannot be loaded, saved or computed with.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// A field of a JSON file has a value that cannot be used.
    #[error("{path}: field \"{field}\": {problem}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// No family of models goes by this name here.
    #[error("{path}: architecture {found:?} is not supported; the nearest that is: {nearest}; all: {supported}", path = path.display())]
    UnknownArchitecture {
        /// The file that names it.
        path: PathBuf,
        /// The name.
        found: String,
        /// The name that is known and most like it.
        nearest: &'static str,
        /// The names that are known.
        supported: String,
    },
    /// A model of another kind than what is to be done with it needs.
    #[error("{architecture} is {is}, but {wanted} is needed here")]
    Kind {
        /// As `config.json` names it.
        architecture: String,
        /// What it is.
        is: types::architecture::ModelKind,
        /// What would do.
        wanted: types::architecture::ModelKind,
    },
    /// A tensor is absent, unknown, or of the wrong shape or type.
    #[error("{path}: tensor \"{tensor}\": {problem}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// A target module that the model does not have.
    #[error("target module \"{name}\" is not a linear layer of this model; it has {valid}")]
    UnknownModule {
        /// The name asked for.
        name: String,
        /// The names there are.
        valid: String,
    },
    /// A setting of the adapter that makes no sense.
    #[error("LoRA {field}: {problem}")]
    Lora {
        /// The setting.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A format that this model cannot be exported in.
    #[error("{0}")]
    Export(String),
    /// The computation itself failed.
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}
