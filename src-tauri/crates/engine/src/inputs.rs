//! What a run starts from is kept in the job folder by hash, so that a resumed run goes on with the same files.

use std::{fs, path::Path};

use types::{
    Inputs, JobFolder, RunSpec, files,
    inputs::{self, Unreadable},
    manifest::FileHash,
};

use crate::EngineError;

/// Hashes the files of a run; compares them with what an earlier start found, or with those of the model that is made again.
///
/// # Errors
/// A file cannot be read, or is not the one the run started with.
pub fn check(spec: &RunSpec, job: &JobFolder) -> Result<Inputs, EngineError> {
    let now = Inputs::of(spec).map_err(unreadable)?;
    let path = job.inputs();
    if path.exists() {
        let text = fs::read(&path).map_err(EngineError::file(&path))?;
        let before: Inputs = serde_json::from_slice(&text)
            .map_err(|e| EngineError::Spec { path: path.clone(), message: e.to_string() })?;
        if let Some(what) = before.difference(&now) {
            return Err(EngineError::InputChanged { what });
        }
    } else {
        if let Some(what) = spec.expected.as_ref().and_then(|expected| expected.difference(&now)) {
            return Err(EngineError::OtherInput { what });
        }
        files::write_json(&path, &now).map_err(EngineError::file(&path))?;
    }
    Ok(now)
}

/// The hash of a file, told under the name `shown`.
pub fn hash(path: &Path, shown: &Path) -> Result<FileHash, EngineError> {
    inputs::hash(path, shown).map_err(unreadable)
}

fn unreadable(Unreadable { path, source }: Unreadable) -> EngineError {
    EngineError::file(path)(source)
}
