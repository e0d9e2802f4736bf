//! What a run starts from, by hash: kept in the job folder so that a resumed run goes on with the same files.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use types::{JobFolder, RunSpec, files, manifest::FileHash};

use crate::EngineError;

/// Hashes of the files that decide a run's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Files of the base model.
    pub base: Vec<FileHash>,
    /// The dataset.
    pub dataset: FileHash,
    /// The second dataset, if the run has one.
    pub eval_dataset: Option<FileHash>,
}

/// Endings of the files in a base model's folder that decide what is computed.
const BASE_FILES: &[&str] = &["safetensors", "json", "jinja", "model"];

impl Inputs {
    /// Hashes the files of a run; on a later start, compares them with what the first start found.
    ///
    /// # Errors
    /// A file cannot be read, or is not the one the run started with.
    pub fn check(spec: &RunSpec, job: &JobFolder) -> Result<Self, EngineError> {
        let now = Self {
            base: hash_folder(&spec.base_dir)?,
            dataset: hash(&spec.dataset_path, &spec.dataset_path)?,
            eval_dataset: spec.eval_dataset_path.as_deref().map(|path| hash(path, path)).transpose()?,
        };
        let path = job.inputs();
        if path.exists() {
            let text = fs::read(&path).map_err(EngineError::file(&path))?;
            let before: Self = serde_json::from_slice(&text)
                .map_err(|e| EngineError::Spec { path: path.clone(), message: e.to_string() })?;
            if let Some(what) = before.difference(&now) {
                return Err(EngineError::InputChanged { what });
            }
        } else {
            files::write_json(&path, &now).map_err(EngineError::file(&path))?;
        }
        Ok(now)
    }

    fn difference(&self, now: &Self) -> Option<String> {
        let all = |inputs: &Self| -> Vec<FileHash> {
            let own = inputs.base.iter().cloned();
            own.chain([inputs.dataset.clone()]).chain(inputs.eval_dataset.clone()).collect()
        };
        let (before, after) = (all(self), all(now));
        before
            .iter()
            .find(|file| !after.contains(file))
            .or_else(|| after.iter().find(|file| !before.contains(file)))
            .map(|file| file.path.clone())
    }
}

fn hash_folder(folder: &Path) -> Result<Vec<FileHash>, EngineError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(EngineError::file(folder))? {
        let path = entry.map_err(EngineError::file(folder))?.path();
        let wanted = path.extension().is_some_and(|e| BASE_FILES.iter().any(|ending| e == *ending));
        if wanted && path.is_file() {
            let name = path.file_name().map(Path::new).unwrap_or(&path);
            found.push(hash(&path, name)?);
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The hash of a file, told under the name `shown`.
pub fn hash(path: &Path, shown: &Path) -> Result<FileHash, EngineError> {
    Ok(FileHash {
        path: shown.to_string_lossy().replace('\\', "/"),
        bytes: fs::metadata(path).map_err(EngineError::file(path))?.len(),
        sha256: files::sha256(path).map_err(EngineError::file(path))?,
    })
}
