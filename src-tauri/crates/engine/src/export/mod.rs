//! Exporting a finished model: an empty folder is filled with a model that other programs load, and then checked.

mod gguf;
mod safetensors;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use models::{ModelError, export::Merged};
use types::{
    ExportFormat, Manifest, ModelFolder,
    engine::exit,
    export::{ExportLine, ExportRequest},
    files,
};

use crate::{EngineError, card, complain, tell};

/// Room on the disk beside the weights, for the tokenizer and what the file system keeps.
const SPARE_BYTES: u64 = 64 << 20;

/// Carries out `request`, an [`ExportRequest`] in JSON. Exit codes: 0 written, 1 failed.
pub fn main(request: &str) -> u8 {
    let request: ExportRequest = match serde_json::from_str(request) {
        Ok(request) => request,
        Err(error) => {
            complain(format!("not an export: {error}"));
            return exit::USAGE;
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| export(&request)))
        .unwrap_or_else(|panic| Err(EngineError::panic(panic.as_ref())));
    let (line, code) = match result {
        Ok(written) => (written, exit::SUCCESS),
        Err(error) => (ExportLine::Error(error.to_string()), exit::FAILURE),
    };
    let told = tell(&line);
    if code != exit::SUCCESS || told.is_err() {
        discard(&request.folder);
    }
    match told {
        Ok(()) => code,
        Err(error) => {
            complain(format!("standard output: {error}"));
            exit::FAILURE
        }
    }
}

fn export(request: &ExportRequest) -> Result<ExportLine, EngineError> {
    let merged = Merged::open(&request.base_dir, &request.adapter_dir)?;
    let checked = match request.format {
        ExportFormat::Safetensors => safetensors::export(request, &merged)?,
        ExportFormat::Gguf => gguf::export(request, &merged)?,
    };
    if request.format == ExportFormat::Safetensors {
        write_card(request)?;
    }
    Ok(ExportLine::Written { bytes: folder_bytes(&request.folder)?, checked })
}

/// The model's card and its base's license, so that the export tells what it is wherever it goes.
fn write_card(request: &ExportRequest) -> Result<(), EngineError> {
    let path = ModelFolder::new(&request.adapter_dir).manifest();
    // An adapter of another program has none.
    if !path.is_file() {
        return Ok(());
    }
    let bytes = fs::read(&path).map_err(EngineError::file(&path))?;
    let read = serde_json::from_slice(&bytes).map_err(std::io::Error::other);
    let manifest: Manifest = read.map_err(EngineError::file(&path))?;
    let text = card::render(&manifest, &request.base_dir, card::Holds::Merged);
    let card = request.folder.join("README.md");
    files::write(&card, text.as_bytes()).map_err(EngineError::file(&card))
}

/// Fails where the disk has no room for `bytes` of weights.
fn check_room(request: &ExportRequest, bytes: u64) -> Result<(), EngineError> {
    let needed = bytes.saturating_add(SPARE_BYTES);
    match request.free_bytes {
        Some(free) if free < needed => {
            Err(EngineError::NoRoom { folder: request.folder.clone(), needed, free })
        }
        _ => Ok(()),
    }
}

/// Tells how many of `total` bytes are written. An export that nobody waits for any more is not worth its time.
fn progress(total: u64) -> impl FnMut(u64) -> Result<(), ModelError> {
    move |done| {
        tell(&ExportLine::Progress { done, total })
            .map_err(|source| ModelError::Io { path: "standard output".into(), source })
    }
}

fn folder_bytes(folder: &Path) -> Result<u64, EngineError> {
    let failed = |error| EngineError::file(folder)(error);
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(failed)?.len();
    }
    Ok(bytes)
}

fn discard(folder: &Path) {
    match fs::remove_dir_all(folder) {
        // Whoever asked may have removed it already.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            complain(EngineError::file(folder)(error))
        }
        _ => {}
    }
}
