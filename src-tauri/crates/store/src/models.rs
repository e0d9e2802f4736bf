//! Finished models: the folders under `models/` and their index.

use std::{collections::HashSet, fs, io, path::Path};

use serde::Serialize;
use types::{Manifest, ModelFolder, Task};

use crate::{
    Store, StoreError, folder,
    table::models::{self, ModelRow},
};

/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 16 << 20;

/// A finished model with all that its manifest tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// What the list shows.
    #[serde(flatten)]
    pub row: ModelRow,
    /// Where it came from.
    pub manifest: Manifest,
}

impl Store {
    /// All finished models, the newest first. Folders that came or went since are taken into account.
    pub fn models(&self) -> Result<Vec<ModelRow>, StoreError> {
        self.reindex_models()?;
        models::all(&self.db()).map_err(|e| self.failed(e))
    }

    /// The finished models for one task, the newest first.
    pub fn models_for(&self, task: Task) -> Result<Vec<ModelRow>, StoreError> {
        Ok(self.models()?.into_iter().filter(|row| row.task == task.name()).collect())
    }

    /// One finished model.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] when there is none; an error of its own when its manifest is damaged.
    pub fn model(&self, model_id: &str) -> Result<Model, StoreError> {
        let folder = self.home().model(model_id)?;
        if !folder.manifest().is_file() {
            return Err(StoreError::UnknownModel(model_id.to_owned()));
        }
        let manifest = read_manifest(&folder)?;
        // The lock must be free again before `add_model` takes it.
        let indexed = models::get(&self.db(), model_id).map_err(|e| self.failed(e))?;
        let row = match indexed {
            Some(row) => row,
            None => self.add_model(model_id)?,
        };
        Ok(Model { row, manifest })
    }

    /// Puts a model whose folder is complete into the index.
    pub fn add_model(&self, model_id: &str) -> Result<ModelRow, StoreError> {
        let folder = self.home().model(model_id)?;
        let manifest = read_manifest(&folder)?;
        let bytes = folder::bytes(folder.path())?;
        let row = ModelRow {
            model_id: model_id.to_owned(),
            name: manifest.name,
            base_model: manifest.base_model.name,
            task: manifest.config.task.to_string(),
            strategy: manifest.config.strategy.to_string(),
            created_at: manifest.created_at,
            size_mb: models::megabytes(bytes),
            path: folder.path().to_string_lossy().into_owned(),
        };
        models::put(&self.db(), &row, bytes).map_err(|e| self.failed(e))?;
        Ok(row)
    }

    /// Deletes a model and its folder.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] when there is none.
    pub fn delete_model(&self, model_id: &str) -> Result<(), StoreError> {
        let folder = self.home().model(model_id)?;
        let manifest = folder.manifest();
        // The manifest goes first: a folder that is only half deleted must not look whole.
        match fs::remove_file(&manifest) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::UnknownModel(model_id.to_owned()));
            }
            Err(source) => return Err(StoreError::Io { doing: "delete", path: manifest, source }),
        }
        folder::discard(folder.path())?;
        models::remove(&self.db(), model_id).map_err(|e| self.failed(e))
    }

    /// Adds rows for complete folders that have none, removes rows whose folder is gone. A folder with a damaged
    /// manifest is not listed.
    pub(crate) fn reindex_models(&self) -> Result<(), StoreError> {
        let indexed: Vec<String> = {
            let rows = models::all(&self.db()).map_err(|e| self.failed(e))?;
            rows.into_iter().map(|row| row.model_id).collect()
        };
        let root = self.home().models();
        let mut on_disk = HashSet::new();
        for entry in fs::read_dir(&root).map_err(StoreError::io("read", &root))? {
            let name = entry.map_err(StoreError::io("read", &root))?.file_name();
            let Some(id) = name.to_str() else { continue };
            if self.home().model(id).is_ok_and(|folder| folder.manifest().is_file()) {
                on_disk.insert(id.to_owned());
            }
        }
        for gone in indexed.iter().filter(|id| !on_disk.contains(*id)) {
            models::remove(&self.db(), gone).map_err(|e| self.failed(e))?;
        }
        for new in on_disk.iter().filter(|id| !indexed.contains(id)) {
            match self.add_model(new) {
                Ok(_)
                | Err(StoreError::BadFile { .. } | StoreError::NewerFile { .. } | StoreError::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn read_manifest(folder: &ModelFolder) -> Result<Manifest, StoreError> {
    let path = folder.manifest();
    let manifest: Manifest = read_json(&path, MAX_MANIFEST)?;
    if manifest.version != Manifest::VERSION {
        return Err(StoreError::NewerFile { path, found: manifest.version, known: Manifest::VERSION });
    }
    Ok(manifest)
}

/// A JSON file of ours, refused when it is larger than any that we write.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, most: u64) -> Result<T, StoreError> {
    let length = fs::metadata(path).map_err(StoreError::io("read", path))?.len();
    if length > most {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"));
        return Err(StoreError::Io { doing: "read", path: path.to_owned(), source });
    }
    let text = fs::read(path).map_err(StoreError::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| StoreError::BadFile { path: path.to_owned(), source })
}
