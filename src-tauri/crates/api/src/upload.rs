//! Datasets that are sent to the app because their sender has no path to name, such as a browser: kept in the data folder.
//!
//! What is sent has its final name only once all of it is there; until then, dropping the [`Upload`] leaves nothing. How
//! it is sent and how much of it is taken is the host's.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;
use tempfile::NamedTempFile;
use types::{
    ApiError, FieldError,
    field::{Fallback, Field, Kind},
    fields, files,
};

use crate::{Api, Place, Topic};

/// Where a dataset is sent over HTTP, with POST; its body is the file.
pub const UPLOAD_PATH: &str = "/api/datasets/upload";

/// The formats that datasets are read in, by their files' extensions.
const EXTENSIONS: &[&str] = &["jsonl", "json", "csv", "parquet"];

/// The longest name in bytes; with a number after it, it is still one that every system takes.
const MAX_NAME: usize = 200;

/// What is written at one go, in bytes.
const PIECE: usize = 4 << 20;

/// Space in bytes that an upload leaves free on its disk, for the database and the runs.
const LEFT_FREE: u64 = 512 << 20;

/// Names that Windows takes for devices, with any extension.
const DEVICES: &[&str] = &["con", "prn", "aux", "nul"];

fields! {
    /// A dataset that is about to be sent.
    pub struct UploadInput {
        name: String, Kind::Text, Fallback::Required, "The file's name, without a folder; it ends in .jsonl, .json, .csv or .parquet.";
    }
}

impl types::Input for UploadInput {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// A dataset that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UploadedDataset {
    /// The file, as the other operations take it.
    pub dataset: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A dataset that is being sent.
pub struct Upload {
    api: Arc<Api>,
    name: Name,
    temporary: NamedTempFile,
    /// The same file, for whoever writes.
    file: Arc<File>,
    /// Received, and not yet written.
    waiting: Vec<u8>,
    bytes: u64,
}

/// A file's name in two parts.
struct Name {
    stem: String,
    extension: String,
}

impl Upload {
    /// Begins to take a dataset of which `announced` bytes will come, where that is known.
    ///
    /// # Errors
    /// 400 for a name that is none or of no known format, and for a full disk; 500 where no file can be made.
    pub async fn begin(api: Arc<Api>, input: UploadInput, announced: Option<u64>) -> Result<Self, ApiError> {
        let name = Name::of(&input.name).map_err(|msg| {
            let mut error = FieldError::value("name", msg);
            error.place(Place::Query.name());
            ApiError::invalid(vec![error])
        })?;
        let folder = api.store().home().datasets();
        let begin = move || {
            check_space(&folder, announced.unwrap_or(0))?;
            let failed = |e: std::io::Error| ApiError::internal(format!("{}: {e}", folder.display()));
            let temporary = files::temporary(&folder).map_err(failed)?;
            let file = Arc::new(temporary.as_file().try_clone().map_err(failed)?);
            Ok::<_, ApiError>((temporary, file))
        };
        let (temporary, file) = crate::blocking(begin).await??;
        Ok(Self { api, name, temporary, file, waiting: Vec::new(), bytes: 0 })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// 400 for a full disk, 500 where it cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        self.waiting.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        if self.waiting.len() < PIECE { Ok(()) } else { self.flush().await }
    }

    /// All is there. A file of the same content under this name is kept instead; one of another content keeps its name,
    /// and this one gets a number.
    ///
    /// # Errors
    /// As [`Upload::write`]; 400 for an empty file.
    pub async fn finish(mut self) -> Result<UploadedDataset, ApiError> {
        self.flush().await?;
        let Self { api, name, temporary, bytes, .. } = self;
        if bytes == 0 {
            return Err(ApiError::bad_request(format!("{} is empty.", name.numbered(1))));
        }
        let folder = api.store().home().datasets();
        let dataset = crate::blocking(move || publish(temporary, &folder, &name, bytes)).await??;
        api.announce(Topic::Datasets, None);
        Ok(UploadedDataset { dataset, bytes })
    }

    async fn flush(&mut self) -> Result<(), ApiError> {
        let bytes = std::mem::take(&mut self.waiting);
        let file = Arc::clone(&self.file);
        let path = self.temporary.path().to_owned();
        crate::blocking(move || {
            check_space(&path, bytes.len() as u64)?;
            (&*file).write_all(&bytes).map_err(|e| match e.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => disk_full(),
                _ => ApiError::internal(format!("{}: {e}", path.display())),
            })
        })
        .await?
    }
}

impl Name {
    /// Takes a name that every system can give a file, so that a data folder can be moved to another one.
    fn of(name: &str) -> Result<Self, String> {
        let known = format!(
            "must end in one of {}",
            EXTENSIONS.iter().map(|e| format!(".{e}")).collect::<Vec<_>>().join(", ")
        );
        let Some((stem, extension)) = name.rsplit_once('.') else { return Err(known) };
        let extension = extension.to_ascii_lowercase();
        if !EXTENSIONS.contains(&extension.as_str()) {
            return Err(known);
        }
        if name.len() > MAX_NAME {
            return Err(format!("must be at most {MAX_NAME} bytes long, not {}", name.len()));
        }
        if name.contains(|c: char| c.is_control() || "/\\:*?\"<>|".contains(c)) {
            return Err(
                "must be a file's name without a folder, and without any of / \\ : * ? \" < > |".into()
            );
        }
        let first = stem.split('.').next().unwrap_or(stem).trim().to_ascii_lowercase();
        let port = first.strip_prefix("com").or(first.strip_prefix("lpt"));
        let is_device = DEVICES.contains(&first.as_str())
            || port.is_some_and(|port| port.chars().count() == 1 && !port.starts_with('0'));
        if stem.trim() != stem || stem.is_empty() || stem.starts_with('.') || stem.ends_with('.') || is_device
        {
            return Err("is no name that every system takes".into());
        }
        Ok(Self { stem: stem.to_owned(), extension })
    }

    /// The name itself for 1.
    fn numbered(&self, number: u32) -> String {
        let Self { stem, extension } = self;
        if number == 1 { format!("{stem}.{extension}") } else { format!("{stem}-{number}.{extension}") }
    }
}

fn publish(
    mut temporary: NamedTempFile,
    folder: &Path,
    name: &Name,
    bytes: u64,
) -> Result<PathBuf, ApiError> {
    let failed = |e: std::io::Error| ApiError::internal(format!("{}: {e}", folder.display()));
    let mut hash = None;
    for number in 1.. {
        let path = folder.join(name.numbered(number));
        match files::publish_new(temporary, &path) {
            Ok(()) => return Ok(path),
            Err(refused) if refused.error.kind() == ErrorKind::AlreadyExists => temporary = refused.file,
            Err(refused) => return Err(failed(refused.error)),
        }
        let is_as_long = path.symlink_metadata().is_ok_and(|there| there.is_file() && there.len() == bytes);
        if is_as_long {
            let ours = match hash.take() {
                Some(hash) => hash,
                None => files::sha256(temporary.path()).map_err(failed)?,
            };
            if files::sha256(&path).is_ok_and(|theirs| theirs == ours) {
                return Ok(path);
            }
            hash = Some(ours);
        }
    }
    Err(ApiError::internal("every name is taken"))
}

fn check_space(path: &Path, bytes: u64) -> Result<(), ApiError> {
    match hardware::free_disk(path) {
        Some(free) if free < bytes.saturating_add(LEFT_FREE) => Err(disk_full()),
        // Where the system does not tell, a write that fails does.
        _ => Ok(()),
    }
}

fn disk_full() -> ApiError {
    ApiError::bad_request("The disk of the data folder is full: make room and send the file again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_every_system_takes() {
        for good in
            ["rows.jsonl", "My rows (2).CSV", "données.v2.parquet", "a.json", "common.csv", "com10.csv"]
        {
            assert!(Name::of(good).is_ok(), "{good}");
        }
        let long = format!("{}.csv", "a".repeat(MAX_NAME));
        for bad in [
            "",
            "rows",
            "rows.txt",
            ".csv",
            "..csv",
            "../rows.csv",
            "a/b.csv",
            "a\\b.csv",
            "C:rows.csv",
            "/etc/passwd",
            "a\0.csv",
            "a\n.csv",
            " a.csv",
            "a .csv",
            "a..csv",
            ".hidden.csv",
            "nul.csv",
            "CON.tar.csv",
            "com1.json",
            "lpt9.csv",
            "rows.csv/",
            "rows.csv:stream",
            "rows.jsonl ",
            &long,
        ] {
            assert!(Name::of(bad).is_err(), "{bad:?} must not name a file");
        }
        assert_eq!(Name::of("A.b.CSV").unwrap().numbered(2), "A.b-2.csv");
    }
}
