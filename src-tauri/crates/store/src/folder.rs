//! Folders as a whole: what they take on disk, and deleting them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use types::files;

use crate::StoreError;

/// What the files below a folder take, in bytes; 0 where there is no folder. Links are not followed: what they lead to
/// is counted where it lies. What goes away meanwhile is not counted.
pub(crate) fn bytes(folder: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = StoreError::io("read", &folder);
        let Some(entries) = present(fs::read_dir(&folder)).map_err(failed)? else { continue };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &folder))?;
            let path = entry.path();
            match present(entry.metadata()).map_err(StoreError::io("read", &path))? {
                Some(metadata) if metadata.is_dir() => folders.push(path),
                Some(metadata) if metadata.is_file() => bytes += metadata.len(),
                _ => {}
            }
        }
    }
    Ok(bytes)
}

/// Nobody writes a file for longer than this without a byte more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// What an entry was renamed to before it was deleted. No id begins so: nothing takes it for a model or a run.
const DELETED: &str = ".deleted-";

/// Deletes a folder with all that is in it. What is left where that is cut short is found by [`sweep`].
pub(crate) fn discard(folder: &Path) -> Result<(), StoreError> {
    let renamed = folder.file_name().map(|name| {
        let mut new = std::ffi::OsString::from(DELETED);
        new.push(name);
        folder.with_file_name(new)
    });
    let folder = match renamed {
        Some(renamed) if fs::rename(folder, &renamed).is_ok() => renamed,
        // A file that is open elsewhere keeps its folder's name on Windows; deleting may work all the same.
        _ => folder.to_owned(),
    };
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete", &folder)(e)),
        _ => Ok(()),
    }
}

/// Deletes what an earlier [`discard`] has left in `parent`.
pub(crate) fn sweep(parent: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(parent).map_err(StoreError::io("read", parent))? {
        let entry = entry.map_err(StoreError::io("read", parent))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(DELETED)) {
            // It is only in the way of other data; the next start tries again.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    Ok(())
}

/// Deletes files that were never finished, such as the half of a dataset that a killed process was being sent.
pub(crate) fn sweep_unfinished(parent: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(parent).map_err(StoreError::io("read", parent))? {
        let entry = entry.map_err(StoreError::io("read", parent))?;
        let is_unfinished = entry.file_name().to_str().is_some_and(|name| name.starts_with(files::TEMPORARY));
        // A younger one may still be written, by another process.
        let is_old = || {
            entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
        };
        if is_unfinished && is_old() {
            // It is only in the way of other data; the next start tries again.
            fs::remove_file(entry.path()).ok();
        }
    }
    Ok(())
}

/// The length of a file in bytes; 0 where it is not there.
pub(crate) fn file_bytes(path: &Path) -> Result<u64, StoreError> {
    Ok(present(fs::metadata(path)).map_err(StoreError::io("read", path))?.map_or(0, |m| m.len()))
}

/// The entries of a folder by path, none where it is not there.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = || StoreError::io("read", folder);
    let Some(entries) = present(fs::read_dir(folder)).map_err(failed())? else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry.map_err(failed())?.path())).collect()
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
