//! What can go wrong with the data folder, and the status each gets at the app's boundary.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use types::{ApiError, FieldError};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The platform names no folder for an app's data.
    #[error("No folder for the app's data is known on this system. Set {} to one.", crate::HOME_VARIABLE)]
    NoHome,
    /// Something that is no folder stands where the data folder should be.
    #[error("{} is a file, not a folder. Set {} to a folder.", path.display(), crate::HOME_VARIABLE)]
    HomeIsFile {
        /// What stands there.
        path: PathBuf,
    },
    /// A file or folder could not be read, made or removed.
    #[error("Could not {doing} {}: {}", path.display(), reason(source))]
    Io {
        /// "read", "make", "delete", …
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("The database {} failed: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database was written by a newer version of the app.
    #[error(
        "The database {} was written by a newer ModelForge (layout {found}; this one knows {known}). Update \
         ModelForge, or set {} to another folder.",
        path.display(),
        crate::HOME_VARIABLE
    )]
    NewerDatabase {
        /// The database file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// The newest layout this version knows.
        known: i64,
    },
    /// A JSON file of ours is not what it should be.
    #[error("{} is damaged: {source}", path.display())]
    BadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A file of ours was written by a newer version of the app.
    #[error("{} was written by a newer ModelForge (layout {found}; this one knows {known})", path.display())]
    NewerFile {
        /// Which.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The layout this version knows.
        known: u32,
    },
    /// The files that ship with the app are not there.
    #[error(
        "The files that ship with ModelForge were not found. Set {} to their folder.",
        crate::RESOURCES_VARIABLE
    )]
    NoResources,
    /// No sample has this name.
    #[error("There is no sample `{name}`. The samples are: {}", known.join(", "))]
    UnknownSample {
        /// As it was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The model cannot be reached from here.
    #[error("{} {hint}", crate::inaccessible(name))]
    Inaccessible {
        /// As it was asked for.
        name: String,
        /// What can be done about it.
        hint: String,
    },
    /// A model's folder lacks a file that every model has.
    #[error("The model folder {} has no {missing}", path.display())]
    IncompleteModel {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// No finished model has this id.
    #[error("Model {0} not found")]
    UnknownModel(String),
    /// No run has this id.
    #[error("Training run {0} not found")]
    UnknownRun(String),
    /// An engine works on the run.
    #[error("Training run {0} is active. Stop it first.")]
    RunActive(String),
    /// No conversation has this id.
    #[error("Conversation {0} not found")]
    UnknownConversation(String),
    /// No dataset is known by this path for this task.
    #[error("Dataset {0} not found")]
    UnknownDataset(String),
    /// What was to be deleted is needed, or is not there.
    #[error("{0} is not there any more, or is needed by a model or a run")]
    NotSpare(String),
    /// A value that cannot be kept.
    #[error("{0}")]
    Invalid(FieldError),
}

impl StoreError {
    /// For `map_err` on what the standard library's file functions return.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// The usual troubles in words a person can act on.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("no permission. Change the folder's rights, or set {} to another.", crate::HOME_VARIABLE)
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        _ => error.to_string(),
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let text = error.to_string();
        match error {
            E::Inaccessible { .. } => Self::forbidden(text),
            E::UnknownModel(_)
            | E::UnknownRun(_)
            | E::UnknownConversation(_)
            | E::UnknownDataset(_)
            | E::NotSpare(_) => Self::not_found(text),
            E::UnknownSample { .. } | E::IncompleteModel { .. } | E::RunActive(_) => Self::bad_request(text),
            E::Invalid(field) => Self::invalid(vec![field]),
            E::NoHome
            | E::HomeIsFile { .. }
            | E::Io { .. }
            | E::Database { .. }
            | E::NewerDatabase { .. }
            | E::BadFile { .. }
            | E::NewerFile { .. }
            | E::NoResources => Self::internal(text),
        }
    }
}
