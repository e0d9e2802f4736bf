//! Runs: the job folders under `runs/`, how each one stands, and which one is active.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader},
    path::Path,
};

use serde::Serialize;
use types::{EventLine, JobFolder, RunSpec, TrainEvent};

use crate::{
    Store, StoreError,
    models::read_json,
    table::runs::{self, RunRow},
};

/// The largest `run.json` that is read.
const MAX_SPEC: u64 = 1 << 20;

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum RunStatus {
    /// An engine works on it.
    Running,
    /// It was stopped and can be resumed.
    Stopped,
    /// Its engine ended without a word: killed, out of memory, power cut. It can be resumed.
    Interrupted,
    /// Its model is complete.
    Completed,
    /// It failed.
    Failed {
        /// Why.
        error: String,
    },
}

impl RunStatus {
    /// Whether an engine can take the run up again.
    pub fn can_resume(&self) -> bool {
        matches!(self, Self::Stopped | Self::Interrupted | Self::Failed { .. })
    }
}

/// A run and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// What the list shows.
    #[serde(flatten)]
    pub row: RunRow,
    /// How it stands.
    #[serde(flatten)]
    pub status: RunStatus,
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps it has in all, once they are planned.
    pub total_steps: Option<u64>,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// The metrics measured last.
    pub metrics: BTreeMap<String, f64>,
}

impl Store {
    /// All runs, the newest first. Folders that came or went since are taken into account.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.reindex_runs()?;
        let rows = runs::all(&self.db()).map_err(|e| self.failed(e))?;
        rows.into_iter().map(|row| self.follow(row)).collect()
    }

    /// One run.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is none.
    pub fn run(&self, job_id: &str) -> Result<Run, StoreError> {
        let spec = self.run_spec(job_id)?;
        let row = runs::get(&self.db(), job_id).map_err(|e| self.failed(e))?;
        self.follow(row.unwrap_or_else(|| index_row(&spec)))
    }

    /// What a run was asked to do.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is none.
    pub fn run_spec(&self, job_id: &str) -> Result<RunSpec, StoreError> {
        let job = self.home().run(job_id)?;
        if !job.run_json().is_file() {
            return Err(StoreError::UnknownRun(job_id.to_owned()));
        }
        read_spec(&job)
    }

    /// Puts a run whose folder has its `run.json` into the index.
    pub fn add_run(&self, spec: &RunSpec) -> Result<(), StoreError> {
        runs::put(&self.db(), &index_row(spec)).map_err(|e| self.failed(e))
    }

    /// Every whole line of a run's event log, in order. Lines that cannot be read end it: a killed engine may leave
    /// half of one.
    pub fn events(&self, job_id: &str) -> Result<Vec<EventLine>, StoreError> {
        let path = self.home().run(job_id)?.events();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::Io { doing: "read", path, source }),
        };
        let mut events = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(StoreError::io("read", &path))?;
            let Ok(event) = serde_json::from_str(&line) else { break };
            events.push(event);
        }
        Ok(events)
    }

    /// The run that an engine works on now, if any.
    pub fn active_run(&self) -> Result<Option<String>, StoreError> {
        let root = self.home().runs();
        for entry in fs::read_dir(&root).map_err(StoreError::io("read", &root))? {
            let name = entry.map_err(StoreError::io("read", &root))?.file_name();
            if let Some(job_id) = name.to_str()
                && let Ok(job) = self.home().run(job_id)
                && is_locked(&job.lock())?
            {
                return Ok(Some(job_id.to_owned()));
            }
        }
        Ok(None)
    }

    pub(crate) fn reindex_runs(&self) -> Result<(), StoreError> {
        let indexed: HashSet<String> = {
            let rows = runs::all(&self.db()).map_err(|e| self.failed(e))?;
            rows.into_iter().map(|row| row.job_id).collect()
        };
        let root = self.home().runs();
        let mut on_disk = HashSet::new();
        for entry in fs::read_dir(&root).map_err(StoreError::io("read", &root))? {
            let name = entry.map_err(StoreError::io("read", &root))?.file_name();
            let Some(job_id) = name.to_str() else { continue };
            let Ok(job) = self.home().run(job_id) else { continue };
            if !job.run_json().is_file() {
                continue;
            }
            on_disk.insert(job_id.to_owned());
            // A damaged description is not listed; asking for that run by its id tells what is wrong with it.
            if !indexed.contains(job_id)
                && let Ok(spec) = read_spec(&job)
            {
                self.add_run(&spec)?;
            }
        }
        for gone in indexed.difference(&on_disk) {
            runs::remove(&self.db(), gone).map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// Adds to a row what the event log tells.
    fn follow(&self, row: RunRow) -> Result<Run, StoreError> {
        let running = is_locked(&self.home().run(&row.job_id)?.lock())?;
        let mut run = Run {
            status: RunStatus::Interrupted,
            step: 0,
            total_steps: None,
            loss: None,
            metrics: BTreeMap::new(),
            row,
        };
        for line in self.events(&run.row.job_id)? {
            match line.event {
                TrainEvent::Prepared { total_steps, .. } => run.total_steps = Some(total_steps),
                TrainEvent::Step(stats) => {
                    (run.step, run.total_steps, run.loss) =
                        (stats.step, Some(stats.total_steps), Some(stats.loss));
                }
                TrainEvent::Eval { metrics, .. } => run.metrics.extend(metrics),
                // Steps after the checkpoint are done again.
                TrainEvent::Started { resumed_from, .. } => {
                    (run.step, run.status) = (resumed_from.unwrap_or(0), RunStatus::Interrupted);
                }
                TrainEvent::Stopped { .. } => run.status = RunStatus::Stopped,
                TrainEvent::Finished { result, metrics } => {
                    run.metrics.extend(metrics);
                    run.status = match result.success {
                        true => RunStatus::Completed,
                        false => RunStatus::Failed { error: result.error.unwrap_or(result.message) },
                    };
                }
                TrainEvent::Phase { .. }
                | TrainEvent::Loaded { .. }
                | TrainEvent::Checkpoint { .. }
                | TrainEvent::Memory { .. }
                | TrainEvent::Warning { .. } => {}
            }
        }
        if running {
            run.status = RunStatus::Running;
        }
        Ok(run)
    }
}

/// Whether a process holds the lock on this file.
fn is_locked(path: &Path) -> Result<bool, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::Io { doing: "read", path: path.to_owned(), source }),
    };
    // Shared, so that several readers who ask at once do not take each other for an engine.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => {
            Err(StoreError::Io { doing: "lock", path: path.to_owned(), source })
        }
    }
}

fn read_spec(job: &JobFolder) -> Result<RunSpec, StoreError> {
    let path = job.run_json();
    let spec: RunSpec = read_json(&path, MAX_SPEC)?;
    if spec.version != RunSpec::VERSION {
        return Err(StoreError::NewerFile { path, found: spec.version, known: RunSpec::VERSION });
    }
    Ok(spec)
}

fn index_row(spec: &RunSpec) -> RunRow {
    RunRow {
        job_id: spec.job_id.clone(),
        model_id: spec.model_id.clone(),
        name: spec.config.name.clone().unwrap_or_else(|| spec.model_id.clone()),
        base_model: spec.config.model_name.clone(),
        dataset: spec.config.dataset.clone(),
        task: spec.config.task.to_string(),
        strategy: spec.config.strategy.to_string(),
        created_at: spec.created_at.clone(),
    }
}
