//! What everything takes on disk.

use std::{cmp::Reverse, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{CachedRepository, Spare, Store, StoreError, folder, hub_cache};

/// What the app's data and the downloaded models take on disk. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StorageUsage {
    /// The data folder.
    pub home: PathBuf,
    /// Finished models.
    pub models_bytes: u64,
    /// Runs, with their checkpoints.
    pub runs_bytes: u64,
    /// Datasets that the app itself brought here.
    pub datasets_bytes: u64,
    /// The database, with copies of damaged ones that were kept.
    pub database_bytes: u64,
    /// The cache of the Hugging Face Hub, which other programs share.
    pub cache: Option<PathBuf>,
    /// All repositories in it.
    pub cache_bytes: u64,
    /// Each repository in it, the largest first.
    pub cached: Vec<CachedRepository>,
    /// Finished models' exports in the data folder.
    pub exports_bytes: u64,
    /// What is no longer needed and can be deleted, the largest first. It is part of the sums.
    pub spare: Vec<Spare>,
}

impl Store {
    /// Adds up what everything takes on disk. Walks every folder: slow where there are many files.
    pub fn usage(&self) -> Result<StorageUsage, StoreError> {
        let home = self.home();
        let mut cached = hub_cache::cached_repositories()?;
        cached.sort_by_key(|repository| Reverse(repository.bytes));
        let mut database_bytes = 0;
        for path in folder::entries(home.path())? {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("modelforge.db")) {
                database_bytes += folder::file_bytes(&path)?;
            }
        }
        Ok(StorageUsage {
            home: home.path().to_owned(),
            models_bytes: folder::bytes(&home.models())?,
            runs_bytes: folder::bytes(&home.runs())?,
            datasets_bytes: folder::bytes(&home.datasets())?,
            database_bytes,
            cache: hub_cache::hub_cache(),
            cache_bytes: cached.iter().map(|repository| repository.bytes).sum(),
            cached,
            exports_bytes: folder::bytes(&home.exports())?,
            spare: self.spare()?,
        })
    }
}
