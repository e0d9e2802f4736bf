//! Exporting a finished model: an engine fills a folder under a temporary name, which gets its own name once it is complete.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    sync::mpsc,
};
use types::{
    ApiError, ExportDtype, ExportFormat, FieldError,
    export::{ExportItem, ExportLine, ExportRequest},
    files,
};

use crate::{Api, Item, Items, blocking, operation::answer, run::describe};

/// What is to be exported, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The finished model.
    pub model_id: String,
    /// What is made of it.
    pub format: ExportFormat,
    /// How its weights are stored; as the base's where it is left open.
    pub dtype: Option<ExportDtype>,
    /// The folder that the export's own folder is made in; that of all exports where it is left open.
    pub folder: Option<PathBuf>,
}

/// An engine at work and the folder that it fills, which is gone with it unless it is published.
struct Exporting {
    engine: Engine,
    lines: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
    /// The final name, but for a number where it is taken.
    name: PathBuf,
}

/// Ends with its owner.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        self.0.start_kill().ok();
    }
}

impl Api {
    /// Exports a model, told as [`ExportItem`]s. The first comes once nothing is known that speaks against it. Dropping or
    /// closing the receiver ends the export; the last sender is gone when nothing of it is left.
    ///
    /// # Errors
    /// 404 for an unknown model; 400 for a folder that cannot be written, a disk that is too full, and a model that the
    /// format has no place for.
    pub async fn export(self: &Arc<Self>, export: Export) -> Result<Items, ApiError> {
        if (export.format, export.dtype) == (ExportFormat::Safetensors, Some(ExportDtype::Q8_0)) {
            let msg = "q8_0 is for gguf; safetensors takes f16, bf16 and f32";
            return Err(ApiError::invalid(vec![FieldError::value("dtype", msg)]));
        }
        // Asked first: an id that nothing has is not in use either.
        let model = self.finished_model(&export.model_id)?;
        let hold = self.playground().hold(&export.model_id);
        let parent = self.export_parent(export.folder)?;
        let stem = format!("{}-{}", files::file_name(&model.name), export.format);
        let folder = temporary(&parent, &stem)?;
        // The exported model is loaded in the end, to be checked.
        self.playground().unload_if_idle().await;
        let request = ExportRequest {
            base_dir: model.base_dir,
            adapter_dir: model.adapter_dir.unwrap_or_default(),
            name: model.name,
            format: export.format,
            dtype: export.dtype,
            free_bytes: hardware::free_disk(folder.path()),
            folder: folder.path().to_owned(),
        };
        let mut exporting = self.start_export(&request, folder, parent.join(stem))?;
        let first = exporting.next().await?;
        let (sender, items) = mpsc::channel(64);
        tokio::spawn(async move {
            let end = exporting.follow(first, &sender).await;
            drop(hold);
            // Who has gone needs no end.
            if let Some(end) = end {
                sender.send(end.and_then(item)).await.ok();
            }
        });
        Ok(items)
    }

    fn export_parent(&self, folder: Option<PathBuf>) -> Result<PathBuf, ApiError> {
        let Some(folder) = folder else {
            let own = self.store.home().exports();
            return match std::fs::create_dir_all(&own) {
                Ok(()) => Ok(own),
                Err(error) => Err(ApiError::bad_request(format!("{}: {error}", own.display()))),
            };
        };
        let problem = match () {
            () if !folder.is_absolute() => "must be an absolute path",
            () if !folder.is_dir() => "is no folder of this computer; make it first",
            () => return Ok(folder),
        };
        let msg = format!("{} {problem}", folder.display());
        Err(ApiError::invalid(vec![FieldError::value("folder", msg)]))
    }

    fn start_export(
        &self,
        request: &ExportRequest,
        folder: TempDir,
        name: PathBuf,
    ) -> Result<Exporting, ApiError> {
        let json = serde_json::to_string(request).map_err(ApiError::internal)?;
        let arguments = ["export".as_ref(), json.as_ref()];
        let mut engine = Engine(self.launcher.launch(&arguments, Stdio::null()).map_err(failed)?);
        let Some(output) = engine.0.stdout.take() else {
            return Err(ApiError::internal("the export has no standard output"));
        };
        Ok(Exporting { engine, lines: BufReader::new(output).lines(), folder, name })
    }
}

impl Exporting {
    /// The next line.
    async fn next(&mut self) -> Result<ExportLine, ApiError> {
        while let Some(line) = self.lines.next_line().await.map_err(failed)? {
            match serde_json::from_str(&line) {
                Ok(ExportLine::Error(message)) => return Err(ApiError::bad_request(message)),
                Ok(line) => return Ok(line),
                // An engine of another version may say more than this one understands.
                Err(_) => {}
            }
        }
        let status = self.engine.0.wait().await.map_err(failed)?;
        Err(ApiError::internal(format!("the export {}", describe(status))))
    }

    /// Passes on how far it is up to the end, which is returned: `None` where nobody waits for it any more. By then the
    /// engine has ended, and the folder has its name or is gone.
    async fn follow(
        mut self,
        first: ExportLine,
        sender: &mpsc::Sender<Result<Item, ApiError>>,
    ) -> Option<Result<ExportItem, ApiError>> {
        let mut line = Ok(first);
        let end = loop {
            match line {
                Ok(ExportLine::Progress { done, total }) => {
                    if sender.send(item(ExportItem::Progress { done, total })).await.is_err() {
                        break None;
                    }
                }
                Ok(ExportLine::Written { bytes, checked }) => break Some(Ok((bytes, checked))),
                Ok(ExportLine::Error(message)) => break Some(Err(ApiError::bad_request(message))),
                Err(error) => break Some(Err(error)),
            }
            tokio::select! {
                next = self.next() => line = next,
                () = sender.closed() => break None,
            }
        };
        let Some(Ok((bytes, checked))) = end else {
            // It must write no more when the folder is removed.
            self.engine.0.kill().await.ok();
            blocking(move || drop(self)).await.ok();
            return end.and_then(Result::err).map(Err);
        };
        self.engine.0.wait().await.ok();
        let name = self.name.clone();
        let folder = self.folder;
        let published = blocking(move || publish(folder, &name)).await.flatten();
        Some(published.map(|path| ExportItem::Done {
            path: path.to_string_lossy().into_owned(),
            bytes,
            checked,
        }))
    }
}

fn item(item: ExportItem) -> Result<Item, ApiError> {
    Ok(Item { id: None, data: answer(&item)? })
}

/// Gives the folder its name, or that with the first number that is free.
fn publish(folder: TempDir, name: &Path) -> Result<PathBuf, ApiError> {
    for number in 1.. {
        let mut path = name.as_os_str().to_owned();
        if number > 1 {
            path.push(format!("-{number}"));
        }
        let path = PathBuf::from(path);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        files::publish_folder(folder.path(), &path).map_err(failed)?;
        return Ok(path);
    }
    Err(ApiError::internal("every name is taken"))
}

fn failed(error: io::Error) -> ApiError {
    ApiError::internal(format!("the export failed: {error}"))
}

fn temporary(parent: &Path, stem: &str) -> Result<TempDir, ApiError> {
    let prefix = format!(".{stem}-");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    // Temporary folders are for their owner alone unless told otherwise; this one becomes an ordinary one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(parent).map_err(|error| {
        let msg = format!("{} cannot be written: {error}; choose another folder", parent.display());
        ApiError::invalid(vec![FieldError::value("folder", msg)])
    })
}
