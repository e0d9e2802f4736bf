//! From a request to a job folder that an engine can take up.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

use data::{BadRows, DataError};
use store::{BaseModel, Run, RunStatus, Store};
use types::{
    ApiError, Fallback, FieldError, Inputs, JobFolder, Provider, Reward, RunSpec, Strategy, TrainingConfig,
    dataset::RowForm, files, folder::REWARD_MODEL, id,
};

use crate::{Api, base::Reached, fitness, launcher::ComputesOn, run::ActiveRun};

/// Bad rows that a refusal names at most.
const NAMED_ROWS: usize = 20;

/// A request that has passed every check.
#[derive(Clone)]
pub(crate) struct Checked {
    pub config: TrainingConfig,
    pub base: Reached,
    dataset_path: PathBuf,
    eval_dataset_path: Option<PathBuf>,
    /// The files that it is to start from, and no others.
    pub expected: Option<Inputs>,
    /// The step after which it is finished early.
    pub finish_after: Option<u64>,
}

impl Checked {
    /// What a run was asked to do when it was checked.
    pub(crate) fn of(spec: RunSpec, base: Reached) -> Self {
        let RunSpec { config, dataset_path, eval_dataset_path, expected, finish_after, .. } = spec;
        Self { config, base, dataset_path, eval_dataset_path, expected, finish_after }
    }
}

impl Api {
    /// Checks a request in every respect and starts the run. The model must be on this machine.
    ///
    /// # Errors
    /// 400 for settings that no engine carries out, for a dataset that cannot be trained on, and while another run is
    /// active; 403 for a model that cannot be reached; 500 when the job folder cannot be written or the engine does not
    /// start.
    pub async fn start_training(&self, config: TrainingConfig) -> Result<ActiveRun, ApiError> {
        let base = Reached::Here(BaseModel::find(&config.model_name, &self.resources)?);
        let checked = self.check_run(config, base).await?;
        let gate = self.gate().await?;
        self.refuse_second_run()?;
        let (spec, job) = self.reserve(checked)?;
        match ActiveRun::launch(Arc::clone(&self.store), &self.launcher, spec) {
            Ok(run) => {
                let run = run.started(gate).await?;
                self.note_begun(run.job_id());
                Ok(run)
            }
            Err(error) => {
                // The folder holds nothing yet that anyone could use.
                fs::remove_dir_all(job.path()).ok();
                Err(error)
            }
        }
    }

    /// Takes up a run that was stopped, was interrupted or failed, at its last checkpoint.
    ///
    /// # Errors
    /// 404 for an unknown run, 400 for a finished one and while a run is active, 500 when the engine does not start.
    pub async fn resume(&self, job_id: &str) -> Result<ActiveRun, ApiError> {
        let gate = self.gate().await?;
        let spec = self.resumable(job_id)?;
        let run = ActiveRun::launch(Arc::clone(&self.store), &self.launcher, spec)?.started(gate).await?;
        self.note_begun(job_id);
        Ok(run)
    }

    /// What a run that can be taken up was asked to do. Asked with the gate held.
    pub(crate) fn resumable(&self, job_id: &str) -> Result<RunSpec, ApiError> {
        let run = self.store.run(job_id)?;
        self.refuse_second_run()?;
        if run.status == RunStatus::Completed {
            return Err(Self::finished(&run));
        }
        self.try_card_again(job_id)?;
        Ok(self.store.run_spec(job_id)?)
    }

    /// A run that somebody takes up is computed on the card again, which may answer now, or have more memory free.
    fn try_card_again(&self, job_id: &str) -> Result<(), ApiError> {
        let job = self.store.home().run(job_id)?;
        let failed = |e| ApiError::internal(format!("{}: {e}", job.fallback().display()));
        match Fallback::read(&job).map_err(failed)? {
            Some(now) if now.on_processor => now.on_processor(false).write(&job).map_err(failed),
            _ => Ok(()),
        }
    }

    pub(crate) fn finished(run: &Run) -> ApiError {
        let (job_id, model_id) = (&run.row.job_id, &run.row.model_id);
        ApiError::bad_request(format!(
            "{job_id} is finished: its model is {model_id}. Start a new run instead."
        ))
    }

    /// Refuses settings that no engine carries out where runs are computed.
    pub(crate) async fn refuse_unsupported(&self, config: &TrainingConfig) -> Result<(), ApiError> {
        if config.unsupported().is_empty() {
            return Ok(());
        }
        let on_card = matches!(self.computes_on().await?, ComputesOn::Card(_));
        match config.unsupported_on(on_card) {
            refused if refused.is_empty() => Ok(()),
            refused => Err(ApiError::invalid(refused)),
        }
    }

    /// Everything that can be wrong with a request, before anything is made.
    pub(crate) async fn check_run(&self, config: TrainingConfig, base: Reached) -> Result<Checked, ApiError> {
        self.refuse_second_run()?;
        let checked = self.check_settings(config, base).await?;
        self.check_room(&checked).await?;
        Ok(checked)
    }

    /// The same for what is not to be started now.
    pub(crate) async fn check_settings(
        &self,
        mut config: TrainingConfig,
        base: Reached,
    ) -> Result<Checked, ApiError> {
        self.refuse_unsupported(&config).await?;
        fitness::check(&base, config.task, config.strategy)?;
        let dataset_path = self.dataset_path(&config.dataset)?;
        check_dataset(dataset_path.clone(), config.clone()).await?;
        if let Some(named) = &config.reward_model {
            config.reward_model = Some(self.reward_model(named)?);
        }
        let eval_dataset_path =
            config.eval_dataset.as_deref().map(|name| self.eval_dataset_path(name)).transpose()?;
        if let Some(path) = &eval_dataset_path {
            check_dataset(path.clone(), config.clone()).await?;
        }
        let profile = self.hardware().await?.profile;
        config.provider.get_or_insert(Provider::Unsloth);
        config.compute_specs.get_or_insert(profile);
        config.name.get_or_insert_with(|| default_name(base.name(), &dataset_path, &config.dataset));
        Ok(Checked { config, base, dataset_path, eval_dataset_path, expected: None, finish_after: None })
    }

    /// Makes the job folder of a checked request.
    pub(crate) fn reserve(&self, checked: Checked) -> Result<(RunSpec, JobFolder), ApiError> {
        let (job_id, model_id) = self.store.home().reserve_run()?;
        let job = self.store.home().run(&job_id)?;
        let written = || {
            let model_dir = self.store.home().model(&model_id)?.path().to_owned();
            let spec = checked.spec(job_id, model_id, model_dir);
            files::write_json(&job.run_json(), &spec)
                .map_err(|e| ApiError::internal(format!("{}: {e}", job.run_json().display())))?;
            self.store.add_run(&spec)?;
            Ok(spec)
        };
        match written() {
            Ok(spec) => Ok((spec, job)),
            Err(error) => {
                fs::remove_dir_all(job.path()).ok();
                Err(error)
            }
        }
    }

    /// The file that a dataset's name stands for: a sample's rows for training, or the path itself, absolute.
    pub fn dataset_path(&self, dataset: &str) -> Result<PathBuf, ApiError> {
        match self.resources.sample(dataset)? {
            Some(sample) => Ok(sample.train),
            None => absolute(dataset).map_err(|e| ApiError::bad_request(format!("{dataset}: {e}"))),
        }
    }

    /// The file that a dataset to measure on stands for: a sample's held-out rows, or the path itself, absolute.
    fn eval_dataset_path(&self, dataset: &str) -> Result<PathBuf, ApiError> {
        match self.resources.sample(dataset)? {
            Some(sample) => Ok(sample.heldout),
            None => self.dataset_path(dataset),
        }
    }

    /// The folder of a reward model: of a finished model of this id or name that was made with one, or the folder itself.
    fn reward_model(&self, named: &str) -> Result<String, ApiError> {
        let refuse = |problem: String| ApiError::invalid(vec![FieldError::value("reward_model", problem)]);
        let models = self.store.models()?;
        let known = models.iter().find(|model| model.model_id == named || model.name == named);
        let folder = match known {
            Some(model) => PathBuf::from(&model.path),
            None => absolute(named).map_err(|e| refuse(format!("{named}: {e}")))?,
        };
        let holds = |folder: &Path| folder.join("adapter_config.json").is_file();
        match [folder.join(REWARD_MODEL), folder.clone()].into_iter().find(|folder| holds(folder)) {
            Some(folder) if known.is_none() || folder.ends_with(REWARD_MODEL) => {
                Ok(folder.to_string_lossy().into_owned())
            }
            _ => Err(refuse(format!(
                "{named} is no reward model: give the name of a model that was tuned with strategy rlhf and reward model, or the \
                 folder of a reward model"
            ))),
        }
    }

    pub(crate) fn refuse_second_run(&self) -> Result<(), ApiError> {
        match self.store.active_run()? {
            Some(job_id) => Err(ApiError::bad_request(format!("Training already in progress: {job_id}"))),
            None => Ok(()),
        }
    }

    /// Held from the look for an active run until the new engine holds its job's lock, by one process at a time.
    pub(crate) async fn gate(&self) -> Result<fs::File, ApiError> {
        gate(&self.store).await
    }
}

/// As [`Api::gate`].
pub(crate) async fn gate(store: &Store) -> Result<fs::File, ApiError> {
    let path = store.home().start_lock();
    let failed = format!("Could not lock {}", path.display());
    let lock = move || {
        let file = files::open_lock(&path)?;
        file.lock().map(|()| file)
    };
    crate::blocking(lock).await?.map_err(|e: std::io::Error| ApiError::internal(format!("{failed}: {e}")))
}

impl Checked {
    /// The files that are read.
    pub(crate) fn datasets(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.dataset_path.as_path()).chain(self.eval_dataset_path.as_deref())
    }

    /// The description of the run that this request asks for.
    pub(crate) fn spec(&self, job_id: String, model_id: String, model_dir: PathBuf) -> RunSpec {
        RunSpec {
            version: RunSpec::VERSION,
            job_id,
            model_id,
            model_dir,
            config: self.config.clone(),
            base_dir: self.base.dir().to_owned(),
            dataset_path: self.dataset_path.clone(),
            eval_dataset_path: self.eval_dataset_path.clone(),
            created_at: id::now_rfc3339(),
            expected: self.expected.clone(),
            finish_after: self.finish_after,
        }
    }
}

/// Refuses a dataset that the engine could not train on, before anything is started.
async fn check_dataset(path: PathBuf, config: TrainingConfig) -> Result<(), ApiError> {
    let skip = config.skip_bad_rows;
    let shown = path.clone();
    let check = move || data::check(&path, config.task, config.strategy, NAMED_ROWS);
    let refuse = |error: DataError| ApiError::bad_request(error.to_string());
    let report = crate::blocking(check).await?.map_err(refuse)?;
    let learns_rewards =
        config.strategy == Strategy::Rlhf && config.reward == Reward::Model && config.reward_model.is_none();
    if learns_rewards && report.form.is_some_and(|form| form != RowForm::Preference) {
        let message = "model needs rows with prompt, chosen and rejected to train a reward model on; take such a dataset, give a \
                       reward_model, or choose reward regex or exact_match";
        return Err(ApiError::invalid(vec![FieldError::value("reward", message)]));
    }
    let errors = BadRows { errors: report.errors, total: report.error_count };
    match (report.usable_rows, errors.total) {
        (0, _) => Err(refuse(DataError::NoUsableRows { path: shown, errors })),
        (_, 1..) if !skip => Err(refuse(DataError::Rows(errors))),
        _ => Ok(()),
    }
}

/// `<model>-<dataset>`, both without folder and extension.
fn default_name(base: &str, dataset: &Path, as_named: &str) -> String {
    let last =
        |text: &str| text.rsplit(['/', '\\', ':']).find(|part| !part.is_empty()).unwrap_or(text).to_owned();
    let stem = dataset.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let dataset = if as_named.starts_with("sample:") { last(as_named) } else { stem.unwrap_or_default() };
    format!("{}-{dataset}", last(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_after_its_base_and_its_dataset() {
        for (base, path, as_named, want) in [
            (
                "modelforge/starter",
                "/r/samples/order-slips/train.jsonl",
                "sample:order-slips",
                "starter-order-slips",
            ),
            ("/models/my model/", "/data/rows.v2.csv", "rows.v2.csv", "my model-rows.v2"),
            ("HuggingFaceTB/SmolLM2-135M", "/d/x.jsonl", "/d/x.jsonl", "SmolLM2-135M-x"),
        ] {
            assert_eq!(default_name(base, Path::new(path), as_named), want);
        }
    }
}
