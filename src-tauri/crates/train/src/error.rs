//! What can go wrong in training.

use std::{io, path::PathBuf};

/// Why a run ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The tokenized rows could not be read.
    #[error("reading the tokenized rows: {0}; delete the job's tokens folder to have it made again")]
    Rows(io::Error),
    /// There is nothing to train.
    #[error("the model has no adapter to train: attach one first")]
    NoAdapter,
    /// An adapter tensor that is not f32, which training needs whatever the base model holds.
    #[error("the adapter tensor {name} is {dtype}; adapters are trained in f32")]
    AdapterDtype {
        /// The tensor.
        name: String,
        /// What it is.
        dtype: String,
    },
    /// A tensor that should learn is not connected to the loss.
    #[error(
        "the adapter tensor {0} received no gradient, so it would never learn; this is a fault of the model's code"
    )]
    NoGradient(String),
    /// The data gives no step.
    #[error("there are no rows to train on; add rows to the dataset or lower eval_split")]
    NoRows,
    /// All rows of a step are prompt.
    #[error(
        "step {step}: no token of its rows is trained; raise max_seq_length so that the answers are not cut off"
    )]
    NothingToTrain {
        /// The step, from 1.
        step: u64,
    },
    /// The training diverged.
    #[error("step {step}: {what} is not a finite number; lower learning_rate (now {learning_rate}){}", kept(*.checkpoint))]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// `the loss`, `the gradient` or `a weight`.
        what: &'static str,
        /// The run's highest learning rate.
        learning_rate: f64,
        /// The step of the newest checkpoint, which is from before.
        checkpoint: Option<u64>,
    },
    /// A policy that learns from rewards has gone where nobody wanted it.
    #[error("step {step}: {why}{}", kept(*.checkpoint))]
    Guard {
        /// The step, from 1.
        step: u64,
        /// What is wrong, and what to change.
        why: String,
        /// The step of the newest checkpoint that is good.
        checkpoint: Option<u64>,
    },
    /// A reward is to be learnt from rows that compare nothing.
    #[error(
        "a reward model learns from pairs of answers: the dataset needs rows with prompt, chosen and rejected, or choose another reward"
    )]
    NoPairs,
    /// The pattern that answers are to match is none.
    #[error("reward_pattern is not a regular expression: {0}")]
    Pattern(String),
    /// Prompts could not be answered.
    #[error("the model could not write its answers: {0}")]
    Rollout(String),
    /// A setting whose code this version does not have.
    #[error("{field} {value} is not available in this version")]
    NotAvailable {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: &'static str,
    },
    /// A checkpoint that is incomplete or altered.
    #[error("{}: {problem}; delete this folder to go on from an earlier checkpoint or from the start", path.display())]
    DamagedCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint of another run.
    #[error("{} belongs to another run: {difference}; start a new run instead of resuming", path.display())]
    ForeignCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
}

impl TrainError {
    /// A [`TrainError::File`] maker for `map_err`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

fn kept(checkpoint: Option<u64>) -> String {
    checkpoint.map_or(String::new(), |step| format!(". The checkpoint after step {step} is kept"))
}
