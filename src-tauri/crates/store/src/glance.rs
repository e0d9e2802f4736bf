//! What another process may have changed in the data folder, in a form that is cheap to take and to compare.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{Queue, Store, StoreError, folder::file_bytes};

/// The data folder at one moment, as far as a change shows in names, sizes and locks. No file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// Every run with the length of its event log.
    runs: BTreeMap<String, u64>,
    /// The run that an engine works on.
    active: Option<String>,
    /// The runs that wait.
    queue: Queue,
    /// Every finished model.
    models: BTreeSet<String>,
    /// Differs from the one before where another process has written to the database.
    database: i64,
}

impl Store {
    /// Looks at the data folder.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn glance(&self) -> Result<Glance, StoreError> {
        let home = self.home();
        let mut runs = BTreeMap::new();
        for id in names(&home.runs())? {
            if let Ok(job) = home.run(&id)
                && job.run_json().is_file()
            {
                runs.insert(id, file_bytes(&job.events())?);
            }
        }
        let is_model = |id: &String| home.model(id).is_ok_and(|folder| folder.manifest().is_file());
        let models = names(&home.models())?.into_iter().filter(is_model).collect();
        // https://sqlite.org/pragma.html#pragma_data_version
        let version = self.db().query_row("PRAGMA data_version", [], |row| row.get(0));
        let database = version.map_err(|e| self.failed(e))?;
        Ok(Glance { runs, active: self.active_run()?, queue: self.queue()?, models, database })
    }
}

impl Glance {
    /// Runs that are new, are gone, have told something, or have got or lost their engine.
    pub fn changed_runs<'a>(&'a self, before: &'a Self) -> BTreeSet<&'a str> {
        let ids = self.runs.keys().chain(before.runs.keys());
        let mut changed: BTreeSet<&str> =
            ids.filter(|id| self.runs.get(*id) != before.runs.get(*id)).map(String::as_str).collect();
        if self.active != before.active {
            changed.extend([&self.active, &before.active].into_iter().flatten().map(String::as_str));
        }
        changed
    }

    /// Whether other runs wait, or in another order.
    pub fn queue_changed(&self, before: &Self) -> bool {
        self.queue != before.queue
    }

    /// Models that are new or gone.
    pub fn changed_models<'a>(&'a self, before: &'a Self) -> BTreeSet<&'a str> {
        self.models.symmetric_difference(&before.models).map(String::as_str).collect()
    }

    /// Whether another process has written to the database.
    pub fn database_changed(&self, before: &Self) -> bool {
        self.database != before.database
    }
}

fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("read", folder))?;
    // What is deleted meanwhile is not there.
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}
