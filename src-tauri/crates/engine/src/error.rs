//! What can end an engine's work, told so that a person can act on it.

use std::{
    any::Any,
    error::Error,
    io::{self, ErrorKind},
    path::PathBuf,
};

use kernels::{CardFault, card_fault};

/// Why a job or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of the job or the model folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `run.json` is not what it should be.
    #[error("{}: {message}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Another engine holds the job.
    #[error("another engine is already working on {}", .0.display())]
    Busy(PathBuf),
    /// The job has a finished model already.
    #[error("{0} is finished already; start a new run instead")]
    AlreadyFinished(String),
    /// The base model or the dataset is not the one the run started with.
    #[error(
        "{what} has changed since the run started, so it cannot be resumed; restore it or start a new run"
    )]
    InputChanged {
        /// The file.
        what: String,
    },
    /// The base model or the dataset is not the one that the model was made from.
    #[error("{what} is not as it was when the model was made, so the same model cannot be made again")]
    OtherInput {
        /// The file.
        what: String,
    },
    /// Tokenizer and model do not go together.
    #[error(
        "the tokenizer knows {tokenizer} tokens but the model only {model}; use the tokenizer.json that came with the model"
    )]
    VocabTooLarge {
        /// Entries of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// An export does not fit on the disk.
    #[error(
        "the export needs {} and the disk of {} has {} free; make room or choose another folder",
        gigabytes(*.needed), .folder.parent().unwrap_or(.folder).display(), gigabytes(*.free)
    )]
    NoRoom {
        /// The folder that was to be filled.
        folder: PathBuf,
        /// In bytes.
        needed: u64,
        /// In bytes.
        free: u64,
    },
    /// Settings this version does not carry out.
    #[error("{0}")]
    Unsupported(types::FieldError),
    /// A reward model without a scalar head.
    #[error("{} is no reward model: its adapter has no trained layer score", .0.display())]
    NoScores(PathBuf),
    /// A request came before a model was loaded.
    #[error("no model is loaded")]
    NoModel,
    /// A fault of this program.
    #[error("internal error: {0}; the engine's log has more")]
    Panic(String),
    /// Reading or tokenizing the dataset.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// Loading the model or its adapter.
    #[error(transparent)]
    Model(#[from] models::ModelError),
    /// Training itself.
    #[error(transparent)]
    Train(#[from] train::TrainError),
    /// Generating text.
    #[error(transparent)]
    Infer(#[from] infer::InferError),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// `7.4 GB`, in units of 10^9 bytes.
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

impl EngineError {
    /// A panic that was caught.
    pub fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Self::Panic(text.unwrap_or("the engine panicked").to_owned())
    }

    /// Whether a disk had no more room.
    pub fn is_disk_full(&self) -> bool {
        self.is_of(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }

    /// Whether the system, or the card, had no more memory to give.
    pub fn is_out_of_memory(&self) -> bool {
        self.is_of(|kind| kind == ErrorKind::OutOfMemory) || self.fault() == Some(CardFault::OutOfMemory)
    }

    /// Whether the card that computes does not answer any more.
    pub fn is_card_lost(&self) -> bool {
        self.fault() == Some(CardFault::Lost)
    }

    /// What is wrong with the card that an operation failed on.
    fn fault(&self) -> Option<CardFault> {
        match self {
            Self::Tensor(error)
            | Self::Model(models::ModelError::Compute(error))
            | Self::Train(train::TrainError::Tensor(error))
            | Self::Infer(infer::InferError::Compute(error)) => card_fault(error),
            _ => None,
        }
    }

    /// Whether what is at the bottom of it is an error of the system of that kind.
    fn is_of(&self, wanted: impl Fn(ErrorKind) -> bool) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = next {
            if error.downcast_ref::<io::Error>().is_some_and(|error| wanted(error.kind())) {
                return true;
            }
            next = error.source();
        }
        false
    }

    /// An [`EngineError::File`] maker for `map_err`.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
