//! What a run starts from, by hash: a resumed run must go on with the very files, and a model is made again from them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{RunSpec, files, folder::REWARD_MODEL, manifest::FileHash};

/// Endings of the files in a model's folder that decide what is computed.
const MODEL_FILES: &[&str] = &["safetensors", "json", "jinja", "model"];

/// Hashes of the files that decide a run's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inputs {
    /// Files of the base model.
    pub base: Vec<FileHash>,
    /// The dataset.
    pub dataset: FileHash,
    /// The second dataset, if the run has one.
    pub eval_dataset: Option<FileHash>,
    /// Files of the reward model, if the run was given one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reward_model: Vec<FileHash>,
}

impl Inputs {
    /// Hashes the files of a run.
    ///
    /// # Errors
    /// A file or folder that cannot be read.
    pub fn of(spec: &RunSpec) -> Result<Self, Unreadable> {
        Ok(Self {
            base: folder(&spec.base_dir)?,
            dataset: hash(&spec.dataset_path, &spec.dataset_path)?,
            eval_dataset: spec.eval_dataset_path.as_deref().map(|path| hash(path, path)).transpose()?,
            reward_model: match &spec.config.reward_model {
                Some(given) => folder(&reward_model_folder(Path::new(given)))?,
                None => Vec::new(),
            },
        })
    }

    /// The first file that is not the same in both.
    pub fn difference(&self, now: &Self) -> Option<String> {
        let all = |inputs: &Self| -> Vec<FileHash> {
            let own = inputs.base.iter().cloned();
            own.chain([inputs.dataset.clone()]).chain(inputs.eval_dataset.clone()).collect()
        };
        // Runs from before reward models were hashed know of none.
        let reward = if self.reward_model.is_empty() { &[] } else { now.reward_model.as_slice() };
        first_difference(&all(self), &all(now)).or_else(|| first_difference(&self.reward_model, reward))
    }
}

/// The first file of two lists that is not in the other with the same content.
pub fn first_difference(before: &[FileHash], after: &[FileHash]) -> Option<String> {
    before
        .iter()
        .find(|file| !after.contains(file))
        .or_else(|| after.iter().find(|file| !before.contains(file)))
        .map(|file| file.path.clone())
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl Unreadable {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self { path: path.to_owned(), source }
    }
}

/// Where the reward model is of a folder that is one, or is that of a model that was tuned with one.
pub fn reward_model_folder(given: &Path) -> PathBuf {
    let within = given.join(REWARD_MODEL);
    if within.is_dir() { within } else { given.to_owned() }
}

/// The files of a model's folder that decide what is computed.
///
/// # Errors
/// The folder or one of them cannot be read.
pub fn folder(folder: &Path) -> Result<Vec<FileHash>, Unreadable> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Unreadable::at(folder))? {
        let path = entry.map_err(Unreadable::at(folder))?.path();
        let wanted = path.extension().is_some_and(|e| MODEL_FILES.iter().any(|ending| e == *ending));
        if wanted && path.is_file() {
            let name = path.file_name().map(Path::new).unwrap_or(&path);
            found.push(hash(&path, name)?);
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The hash of a file, told under the name `shown`.
///
/// # Errors
/// It cannot be read.
pub fn hash(path: &Path, shown: &Path) -> Result<FileHash, Unreadable> {
    Ok(FileHash {
        path: shown.to_string_lossy().replace('\\', "/"),
        bytes: fs::metadata(path).map_err(Unreadable::at(path))?.len(),
        sha256: files::sha256(path).map_err(Unreadable::at(path))?,
    })
}
