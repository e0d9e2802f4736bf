//! What lies on the disk and is no longer needed, and getting rid of it.

use std::{
    cmp::Reverse,
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Serialize;
use types::{SpareKind, files::UNFINISHED_BLOB};

use crate::{
    RepositoryKind, RunStatus, Store, StoreError, folder,
    folder::{bytes, discard, entries, file_bytes},
    hub_cache,
};

/// Something that is no longer needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Spare {
    /// What kind of thing it is.
    pub kind: SpareKind,
    /// Tells it apart from others of its kind.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// What stays of a run whose model is complete.
const HISTORY: &[&str] =
    &["run.json", "inputs.json", "events.jsonl", "engine.lock", "engine.log", "fallback.json"];

impl Store {
    /// Everything that is no longer needed, the largest first. Walks every folder: slow where there are many files.
    pub fn spare(&self) -> Result<Vec<Spare>, StoreError> {
        let mut found = self.spare_of_runs()?;
        found.extend(self.spare_exports()?);
        found.extend(self.spare_of_cache()?);
        found.retain(|spare| spare.bytes > 0);
        found.sort_by_key(|spare| Reverse(spare.bytes));
        Ok(found)
    }

    /// Deletes something that is no longer needed, and gives the bytes that were freed.
    ///
    /// # Errors
    /// [`StoreError::NotSpare`] for what is not there, or is needed after all.
    pub fn free(&self, kind: SpareKind, id: &str) -> Result<u64, StoreError> {
        let listed = match kind {
            SpareKind::Checkpoints | SpareKind::Run => self.spare_of_runs()?,
            SpareKind::Export => self.spare_exports()?,
            SpareKind::BaseModel | SpareKind::Download => self.spare_of_cache()?,
        };
        let spare = listed.into_iter().find(|spare| spare.kind == kind && spare.id == id && spare.bytes > 0);
        let spare = spare.ok_or_else(|| StoreError::NotSpare(id.to_owned()))?;
        match kind {
            SpareKind::Checkpoints => {
                for path in working_files(&spare.path)? {
                    if path.is_dir() {
                        discard(&path)?;
                    } else {
                        fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
                    }
                }
            }
            SpareKind::Run => self.delete_run(id)?,
            SpareKind::Export => {
                fs::remove_dir_all(&spare.path).map_err(StoreError::io("delete", &spare.path))?;
            }
            SpareKind::BaseModel => discard(&spare.path)?,
            SpareKind::Download => {
                for path in unfinished(&spare.path)? {
                    fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
                }
            }
        }
        Ok(spare.bytes)
    }

    fn spare_of_runs(&self) -> Result<Vec<Spare>, StoreError> {
        let mut found = Vec::new();
        for run in self.runs()? {
            let id = run.row.job_id;
            let path = self.home().run(&id)?.path().to_owned();
            let (kind, bytes) = match run.status {
                RunStatus::Completed => {
                    let files = working_files(&path)?;
                    let sizes =
                        files.iter().map(|path| if path.is_dir() { bytes(path) } else { file_bytes(path) });
                    (SpareKind::Checkpoints, sizes.sum::<Result<u64, _>>()?)
                }
                RunStatus::Stopped | RunStatus::Interrupted | RunStatus::Failed { .. } => {
                    (SpareKind::Run, bytes(&path)?)
                }
                RunStatus::Running | RunStatus::Queued => continue,
            };
            found.push(Spare { kind, id, name: run.row.name, bytes, path });
        }
        Ok(found)
    }

    fn spare_exports(&self) -> Result<Vec<Spare>, StoreError> {
        let mut found = Vec::new();
        for path in entries(&self.home().exports())? {
            let id = name_of(&path);
            // One that is being filled has a hidden name.
            if !id.starts_with('.') {
                found.push(Spare {
                    kind: SpareKind::Export,
                    bytes: bytes(&path)?,
                    name: id.clone(),
                    id,
                    path,
                });
            }
        }
        Ok(found)
    }

    fn spare_of_cache(&self) -> Result<Vec<Spare>, StoreError> {
        let mut found = Vec::new();
        let used = self.used_bases()?;
        for repository in hub_cache::cached_repositories()? {
            let path = repository.path.clone();
            let parts = unfinished(&path)?;
            if !parts.is_empty() {
                let sizes = parts.iter().map(|path| file_bytes(path));
                found.push(Spare {
                    kind: SpareKind::Download,
                    id: repository.name.clone(),
                    name: repository.name.clone(),
                    bytes: sizes.sum::<Result<u64, _>>()?,
                    path: path.clone(),
                });
            }
            let is_used =
                used.iter().any(|base| base.starts_with(&path) || base == Path::new(&repository.name));
            if repository.kind == RepositoryKind::Model && repository.base_model.is_some() && !is_used {
                found.push(Spare {
                    kind: SpareKind::BaseModel,
                    id: repository.name.clone(),
                    name: repository.name,
                    bytes: repository.bytes,
                    path,
                });
            }
        }
        Ok(found)
    }

    /// Folders and names of the base models that models were made from or runs may go on with.
    fn used_bases(&self) -> Result<HashSet<PathBuf>, StoreError> {
        let mut used = HashSet::new();
        for row in self.models()? {
            let manifest = self.model(&row.model_id)?.manifest;
            used.extend([manifest.base_model.path, manifest.base_model.name.into()]);
        }
        for run in self.runs()? {
            if run.status != RunStatus::Completed
                && let Ok(spec) = self.run_spec(&run.row.job_id)
            {
                used.extend([spec.base_dir, spec.config.model_name.into()]);
            }
        }
        Ok(used)
    }
}

/// What a job folder holds beyond the run's history.
fn working_files(job: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = entries(job)?;
    found.retain(|path| !HISTORY.contains(&name_of(path).as_str()));
    Ok(found)
}

/// Parts of blobs in a repository of the cache that nobody is downloading.
fn unfinished(repository: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let locks = repository.parent().map(|cache| cache.join(".locks").join(name_of(repository)));
    let is_held = |blob: &str| {
        let lock = locks.as_ref().map(|locks| locks.join(format!("{blob}.lock")));
        // Nobody has begun what has no lock.
        let held = lock.and_then(|path| File::open(path).ok()).map(|file| file.try_lock_shared().is_err());
        held.unwrap_or(false)
    };
    let mut found = folder::entries(&repository.join("blobs"))?;
    found.retain(|path| name_of(path).strip_suffix(UNFINISHED_BLOB).is_some_and(|blob| !is_held(blob)));
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
