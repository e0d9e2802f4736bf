//! What stays between two starts: the data folder, the database, finished models, runs, and where bundled and
//! downloaded files are found.
//!
//! The folders on disk are the truth of models and runs: a model is its manifest, a run is its `run.json` and event log.
//! The database indexes them, and alone holds what the person keeps: settings, conversations, the session. It can be
//! lost: the index is made again, and of the rest is saved what can be read. Nothing here starts an engine, reads the
//! rows of a dataset or opens a connection.

mod base_model;
mod curve;
mod database;
mod error;
mod event_log;
mod folder;
mod follow;
mod glance;
mod home;
mod hub_cache;
mod kept;
mod models;
mod open_app;
mod queue;
mod resources;
mod runs;
mod spare;
pub mod table;
#[cfg(test)]
mod tests;
mod usage;

pub use base_model::{BaseModel, inaccessible};
pub use curve::{Column, RunCurve, StepColumns};
pub use error::StoreError;
pub use event_log::EventTail;
pub use glance::Glance;
pub use home::{HOME_VARIABLE, Home};
pub use hub_cache::{CachedRepository, RepositoryKind, cached_repositories, hub_cache};
pub use kept::Dataset;
pub use models::Model;
pub use open_app::OpenApp;
pub use queue::Queue;
pub use resources::{RESOURCES_VARIABLE, Resources, Sample};
pub use runs::{Run, RunStatus};
pub use spare::Spare;
pub use table::{
    conversations::{Conversation, ConversationDraft, ConversationMessage, ConversationRow},
    datasets::DatasetRow,
    models::ModelRow,
    runs::RunRow,
    session::Session,
    settings::{Settings, Theme},
};
pub use types::run::STARTER;
pub use usage::StorageUsage;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;

use crate::follow::Followed;

/// The data folder with its database open.
#[derive(Debug)]
pub struct Store {
    home: Home,
    db: Mutex<Connection>,
    followed: Followed,
    moved_aside: Option<PathBuf>,
    lost: Vec<&'static str>,
    /// Held while this process is the app that has the folder open.
    claim: Mutex<Option<File>>,
}

impl Store {
    /// Opens the database of `home`, made on first use. A damaged one is moved aside and made anew from the folders and
    /// from what can still be read of it.
    ///
    /// # Errors
    /// When the database cannot be opened or was written by a newer version, which is left as it is.
    pub fn open(home: Home) -> Result<Self, StoreError> {
        let database::Opened { connection, fresh, moved_aside, lost } = database::open(&home.database())?;
        let db = Mutex::new(connection);
        let (followed, claim) = (Followed::default(), Mutex::default());
        let store = Self { home, db, followed, moved_aside, lost, claim };
        folder::sweep(&store.home.models())?;
        folder::sweep(&store.home.runs())?;
        folder::sweep_unfinished(&store.home.datasets())?;
        if fresh {
            store.reindex()?;
        }
        Ok(store)
    }

    /// The data folder.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Where the database that was found damaged on opening has been kept.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    /// The tables of the damaged database that could not be carried over whole: `settings`, `conversations`, …
    /// Models and runs are never among them: their folders bring them back.
    pub fn lost(&self) -> &[&'static str] {
        &self.lost
    }

    /// Brings the tables in line with the folders: what is missing is added, what is gone is taken out.
    pub fn reindex(&self) -> Result<(), StoreError> {
        self.reindex_models()?;
        self.reindex_runs()
    }

    /// A panic while the lock was held leaves no half-done statement behind: SQLite rolls it back.
    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { path: self.home.database(), source }
    }
}
