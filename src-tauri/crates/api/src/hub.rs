//! What of a model's folder goes to the Hub.

use std::path::{Path, PathBuf};

use types::{ApiError, Manifest};

/// Every file of a model's folder but the manifest, which names folders of this machine.
///
/// # Errors
/// 500 when the folder cannot be read.
pub(crate) async fn files_to_push(folder: &Path) -> Result<Vec<String>, ApiError> {
    let folder = folder.to_owned();
    crate::blocking(move || list(&folder)).await?
}

fn list(folder: &PathBuf) -> Result<Vec<String>, ApiError> {
    let failed = |e: std::io::Error| ApiError::internal(format!("{}: {e}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().map_err(failed)?.is_file() && name != Manifest::FILE && !name.starts_with('.') {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}
