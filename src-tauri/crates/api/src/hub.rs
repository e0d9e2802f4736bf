//! Pushing a finished model to the Hub: its adapter, or the whole model that an export makes of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ::hub::{HubError, Progress, Push, Pushed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::mpsc;
use types::{ApiError, ExportFormat, Manifest, export::ExportItem};

use crate::{Api, Export, Item, Items, operation::answer};

/// How often progress is told at most.
const TOLD: Duration = Duration::from_millis(200);

/// What is pushed, and where to.
#[derive(Debug, Clone)]
pub(crate) struct ModelPush {
    pub model_id: String,
    /// `owner/name`.
    pub repo: String,
    pub private: bool,
    /// The whole model instead of the adapter.
    pub merged: bool,
    /// Also where the repository has files.
    pub into_existing: bool,
}

/// How far a push is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PushItem {
    /// The adapter is merged into the base model's weights.
    Merging {
        /// Bytes so far.
        done: u64,
        /// Bytes of all weights.
        total: u64,
    },
    /// Files are sent.
    Sending {
        /// The file that is being sent.
        file: String,
        /// Bytes so far, with those that the Hub had already.
        done: u64,
        /// Bytes of all files.
        total: u64,
    },
    /// The end: the repository has files already, and nothing was changed there.
    Exists {
        /// `owner/name`.
        repository: String,
    },
    /// The Hub has all files, with the hashes that they have here.
    Done {
        /// The repository's page.
        repo_url: String,
        /// The commit that has them.
        commit: String,
        /// How many files were compared.
        files: u64,
        /// Their size in bytes.
        bytes: u64,
    },
}

/// How a push ended.
pub(crate) enum Outcome {
    Pushed(Pushed),
    /// The name is taken: it was left alone.
    Exists(HubError),
}

impl Api {
    /// [`Api::push_model`], told as [`PushItem`]s. Dropping or closing the receiver ends the push.
    ///
    /// # Errors
    /// As [`Api::push_model`], for what goes wrong before there is anything to tell.
    pub(crate) async fn push_and_tell(self: &Arc<Self>, push: ModelPush) -> Result<Items, ApiError> {
        let (sender, mut told) = mpsc::channel(64);
        let api = Arc::clone(self);
        tokio::spawn(async move {
            let progress = sender.clone();
            let mut tell = |item: PushItem| {
                // Who is slow to listen hears of the next one.
                progress.try_send(item_of(&item)).ok();
            };
            let end = tokio::select! {
                end = api.push_model(push, &mut tell) => end,
                () = sender.closed() => return,
            };
            let end = end.and_then(|outcome| match outcome {
                Outcome::Exists(HubError::RepositoryExists { repo }) => {
                    item_of(&PushItem::Exists { repository: repo })
                }
                Outcome::Exists(error) => Err(error.into()),
                Outcome::Pushed(Pushed { url, commit, files, bytes }) => {
                    item_of(&PushItem::Done { repo_url: url, commit, files, bytes })
                }
            });
            sender.send(end).await.ok();
        });
        let first = match told.recv().await {
            Some(Ok(item)) => item,
            Some(Err(error)) => return Err(error),
            None => return Err(ApiError::internal("the push ended without a word")),
        };
        let (sender, items) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut next = Some(Ok(first));
            while let Some(item) = next {
                // Leaving drops `told`, which ends the push.
                if sender.send(item).await.is_err() {
                    return;
                }
                next = tokio::select! {
                    item = told.recv() => item,
                    () = sender.closed() => return,
                };
            }
        });
        Ok(items)
    }

    /// Puts a finished model into a repository. One that has files already is left alone unless it is to be added to.
    ///
    /// # Errors
    /// 404 for an unknown model, 400 for a name that is none, 403 without a token that may write there, 500 for
    /// a Hub that fails.
    pub(crate) async fn push_model(
        self: &Arc<Self>,
        push: ModelPush,
        tell: &mut (dyn FnMut(PushItem) + Send),
    ) -> Result<Outcome, ApiError> {
        let mut folder = self.model_folder(&push.model_id)?;
        let _in_use = self.playground().hold(&push.model_id);
        let model = self.store().model(&push.model_id)?;
        let hub = self.hub()?;
        let mut whole = None;
        if push.merged {
            // Merging takes long: what is certain to be refused is refused before.
            ::hub::check_repo_name(&push.repo)?;
            hub.whoami().await?;
            let (merged, path) = self.merge(&push.model_id, tell).await?;
            (whole, folder) = (Some(merged), path);
        }
        let files = files_to_push(&folder).await?;
        let push = Push {
            files,
            folder,
            repo: push.repo,
            private: push.private,
            message: format!("Upload {}", model.row.name),
            into_existing: push.into_existing,
        };
        let mut told: Option<Instant> = None;
        let mut tell_bytes = |Progress { file, bytes_done, bytes_total }: Progress| {
            if told.is_some_and(|at| at.elapsed() < TOLD) && bytes_done < bytes_total {
                return;
            }
            told = Some(Instant::now());
            tell(PushItem::Sending { file, done: bytes_done, total: bytes_total });
        };
        let pushed = hub.push(push, &mut tell_bytes).await;
        drop(whole);
        match pushed {
            Err(error @ HubError::RepositoryExists { .. }) => Ok(Outcome::Exists(error)),
            other => Ok(Outcome::Pushed(other?)),
        }
    }

    /// Makes the whole model in a folder that is gone when the first of the two is dropped.
    async fn merge(
        self: &Arc<Self>,
        model_id: &str,
        tell: &mut (dyn FnMut(PushItem) + Send),
    ) -> Result<(TempDir, PathBuf), ApiError> {
        let exports = self.store().home().exports();
        let made = || {
            std::fs::create_dir_all(&exports)?;
            tempfile::Builder::new().prefix(".push-").tempdir_in(&exports)
        };
        let folder = made().map_err(|e| ApiError::internal(format!("{}: {e}", exports.display())))?;
        let export = Export {
            model_id: model_id.to_owned(),
            format: ExportFormat::Safetensors,
            dtype: None,
            folder: Some(folder.path().to_owned()),
        };
        let mut items = self.export(export).await?;
        while let Some(item) = items.recv().await {
            match serde_json::from_value(item?.data).map_err(ApiError::internal)? {
                ExportItem::Progress { done, total } => tell(PushItem::Merging { done, total }),
                ExportItem::Done { path, checked: true, .. } => return Ok((folder, path.into())),
                ExportItem::Done { checked: false, .. } => {
                    let problem = "the merged model does not answer as the adapter on its base does: nothing was pushed. Push \
                                   the adapter instead";
                    return Err(ApiError::internal(problem));
                }
            }
        }
        Err(ApiError::internal("the merge ended without a word"))
    }
}

fn item_of(item: &PushItem) -> Result<Item, ApiError> {
    Ok(Item { id: None, data: answer(item)? })
}

/// Every file of a model's folder but the manifest, which names folders of this machine.
///
/// # Errors
/// 500 when the folder cannot be read.
async fn files_to_push(folder: &Path) -> Result<Vec<String>, ApiError> {
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
