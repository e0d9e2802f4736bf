//! Making a finished model again: the same settings on the very same files give the same weights on the same machine.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;
use store::BaseModel;
use types::{
    ApiError, Inputs, Manifest, TrainingConfig,
    inputs::{self, first_difference, reward_model_folder},
    manifest::FileHash,
};

use crate::{Api, base::Reached, job::Checked};

/// A part of what a model was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OriginPart {
    /// The base model.
    BaseModel,
    /// The dataset.
    Dataset,
    /// The second dataset, which is measured on.
    EvalDataset,
    /// The reward model that the run was given.
    RewardModel,
}

impl OriginPart {
    fn name(self) -> &'static str {
        match self {
            Self::BaseModel => "base model",
            Self::Dataset => "dataset",
            Self::EvalDataset => "test dataset",
            Self::RewardModel => "reward model",
        }
    }
}

/// What is not as it was when a model was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OriginDifference {
    /// The part.
    pub part: OriginPart,
    /// The file, or the folder that is gone.
    pub path: String,
    /// Whether it is gone, rather than changed.
    pub missing: bool,
}

/// Whether a model can be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelOrigin {
    /// Whether everything is as it was.
    pub same: bool,
    /// What is not.
    pub differences: Vec<OriginDifference>,
    /// Whether the base model must be downloaded first, the very commit that the model was made from.
    pub download: bool,
    /// The version that made it.
    pub version_then: Option<String>,
    /// This version; another one may compute differently.
    pub version_now: String,
}

/// What a model is made from now.
struct Found {
    base: Reached,
    dataset: PathBuf,
    eval_dataset: Option<PathBuf>,
    origin: ModelOrigin,
}

impl Api {
    /// Compares what a model was made from with what there is now. Reads all of those files.
    ///
    /// # Errors
    /// 404 for an unknown model, 403 for a base model that cannot be reached any more.
    pub async fn origin(self: &Arc<Self>, model_id: &str) -> Result<ModelOrigin, ApiError> {
        let manifest = self.store.model(model_id)?.manifest;
        Ok(self.find_origin(&manifest).await?.origin)
    }

    /// Makes a finished model again, in the background, once no other run is under way; gives the run's id. A model that was finished early or while it was
    /// best is finished after the same step.
    ///
    /// # Errors
    /// 404 for an unknown model; 400 where a file has changed, unless it is to be trained `anyway`, and where one is gone;
    /// everything that starting a run refuses.
    pub async fn train_again(self: &Arc<Self>, model_id: &str, anyway: bool) -> Result<String, ApiError> {
        let manifest = self.store.model(model_id)?.manifest;
        let Found { base, dataset, eval_dataset, origin } = self.find_origin(&manifest).await?;
        let blocking = origin.differences.iter().find(|difference| difference.missing || !anyway);
        if let Some(OriginDifference { part, path, missing }) = blocking {
            let part = part.name();
            return Err(ApiError::bad_request(match missing {
                true => format!("{model_id} cannot be made again: its {part} {path} is no longer there"),
                false => format!("{model_id} cannot be made again: {path} of its {part} has changed since"),
            }));
        }
        let config = self.config_again(&manifest, &dataset, eval_dataset.as_deref())?;
        let mut checked: Checked = self.check_settings(config, base).await?;
        checked.expected = origin.same.then(|| Inputs {
            base: manifest.base_model.files.clone(),
            dataset: FileHash {
                path: dataset.to_string_lossy().replace('\\', "/"),
                bytes: fs::metadata(&dataset).map_or(0, |found| found.len()),
                sha256: manifest.dataset.sha256.clone(),
            },
            eval_dataset: manifest
                .eval_dataset
                .clone()
                .zip(eval_dataset)
                .map(|(file, path)| FileHash { path: path.to_string_lossy().replace('\\', "/"), ..file }),
            reward_model: manifest.reward_model.clone(),
        });
        let early = manifest.planned_steps.is_some_and(|planned| manifest.steps < planned);
        checked.finish_after = early.then_some(manifest.steps);
        let task = checked.config.task;
        let job_id = {
            let _gate = self.gate().await?;
            let (spec, job) = self.reserve(checked)?;
            // What it came to for want of memory is taken from the first step on.
            if let Some(fallback) = &manifest.fallback {
                fallback
                    .write(&job)
                    .map_err(|e| ApiError::internal(format!("{}: {e}", job.fallback().display())))?;
            }
            spec.job_id
        };
        let begun = match self.store.active_run()? {
            Some(_) => self.queue_run(&job_id).await,
            None => self.resume_in_background(&job_id).await,
        };
        if let Err(error) = begun {
            // Nothing has been done in it that anyone could use.
            self.store.delete_run(&job_id).ok();
            return Err(error);
        }
        self.note_task(task)?;
        Ok(job_id)
    }

    /// The settings of a model's run, under a name that no other model has.
    fn config_again(
        &self,
        manifest: &Manifest,
        dataset: &Path,
        eval_dataset: Option<&Path>,
    ) -> Result<TrainingConfig, ApiError> {
        let mut config = manifest.config.clone();
        // What was named relative to another folder is named in full.
        if !is_sample(&config.dataset) {
            config.dataset = dataset.to_string_lossy().into_owned();
        }
        if let (Some(named), Some(path)) = (&mut config.eval_dataset, eval_dataset)
            && !is_sample(named)
        {
            *named = path.to_string_lossy().into_owned();
        }
        let taken: Vec<String> = self.store.models()?.into_iter().map(|model| model.name).collect();
        let names = (2..).map(|number| format!("{} {number}", manifest.name));
        config.name = names.into_iter().find(|name| !taken.contains(name));
        Ok(config)
    }

    async fn find_origin(self: &Arc<Self>, manifest: &Manifest) -> Result<Found, ApiError> {
        let base = self.same_base(manifest).await?;
        let resolve = |named: &str, path: Option<&Path>| match path {
            Some(path) if !is_sample(named) => Ok(path.to_owned()),
            _ => absolute(named).map_err(|e| ApiError::bad_request(format!("{named}: {e}"))),
        };
        let named = &manifest.config.dataset;
        let dataset = match self.resources.sample(named)? {
            Some(sample) => sample.train,
            None => resolve(named, Some(&manifest.dataset.path))?,
        };
        let then = manifest.eval_dataset.as_ref().map(|file| Path::new(&file.path));
        let eval_dataset = match &manifest.config.eval_dataset {
            Some(named) => Some(match self.resources.sample(named)? {
                Some(sample) => sample.heldout,
                None => resolve(named, then)?,
            }),
            None => None,
        };
        let (compared, base, files, eval_files) =
            (manifest.clone(), base, dataset.clone(), eval_dataset.clone());
        crate::blocking(move || {
            let differences = differences(&compared, &base, &files, eval_files.as_deref());
            let origin = ModelOrigin {
                same: differences.is_empty(),
                differences,
                download: matches!(base, Reached::OnHub { .. }),
                version_then: compared.versions.get("modelforge").cloned(),
                version_now: env!("CARGO_PKG_VERSION").into(),
            };
            Found { base, dataset: files, eval_dataset: eval_files, origin }
        })
        .await
    }

    /// The base model in the commit that the model was made from, where that can be told.
    async fn same_base(&self, manifest: &Manifest) -> Result<Reached, ApiError> {
        let (name, path) = (&manifest.base_model.name, &manifest.base_model.path);
        let here = [path.to_string_lossy().into_owned(), name.clone()]
            .into_iter()
            .filter_map(|place| BaseModel::find(&place, &self.resources).ok())
            .map(|base| BaseModel { name: name.clone(), ..base });
        let mut first = None;
        for base in here {
            if base.changed(&manifest.base_model.files).is_none() {
                return Ok(Reached::Here(base));
            }
            first.get_or_insert(base);
        }
        match (first, self.reach(name).await) {
            (_, Ok(Reached::OnHub { repo, sha, dir, missing })) => {
                let commit = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let is_commit =
                    |text: &String| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let sha = commit.filter(is_commit).unwrap_or(sha);
                let dir = dir.with_file_name(&sha);
                Ok(Reached::OnHub { repo, sha, dir, missing })
            }
            (Some(changed), _) => Ok(Reached::Here(changed)),
            (None, found) => found,
        }
    }
}

fn is_sample(named: &str) -> bool {
    named.starts_with("sample:")
}

fn differences(
    manifest: &Manifest,
    base: &Reached,
    dataset: &Path,
    eval_dataset: Option<&Path>,
) -> Vec<OriginDifference> {
    let mut found = Vec::new();
    let folder = |part, folder: &Path, then: &[FileHash]| match inputs::folder(folder) {
        Ok(now) => first_difference(then, &now).map(|path| OriginDifference { part, path, missing: false }),
        Err(error) => {
            Some(OriginDifference { part, path: error.path.to_string_lossy().into_owned(), missing: true })
        }
    };
    if let Reached::Here(base) = base {
        found.extend(folder(OriginPart::BaseModel, &base.dir, &manifest.base_model.files));
    }
    if let Some(given) = manifest.config.reward_model.as_deref().filter(|_| !manifest.reward_model.is_empty())
    {
        let given = reward_model_folder(Path::new(given));
        found.extend(folder(OriginPart::RewardModel, &given, &manifest.reward_model));
    }
    let file = |part, path: &Path, then: &str| {
        let now = types::files::sha256(path);
        let path = path.to_string_lossy().into_owned();
        match now {
            Ok(now) if now == then => None,
            now => Some(OriginDifference { part, path, missing: now.is_err() }),
        }
    };
    found.extend(file(OriginPart::Dataset, dataset, &manifest.dataset.sha256));
    if let Some((path, then)) = eval_dataset.zip(manifest.eval_dataset.as_ref()) {
        found.extend(file(OriginPart::EvalDataset, path, &then.sha256));
    }
    found
}
