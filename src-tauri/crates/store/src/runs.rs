//! Runs: the job folders under `runs/`, how each one stands, and which one is active.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use schemars::JsonSchema;
use serde::Serialize;
use types::{DownloadProgress, EventLine, JobFolder, Phase, RunSpec};

use crate::{
    EventTail, Queue, RunCurve, Store, StoreError,
    folder::discard,
    models::read_json,
    table::{
        current_run,
        runs::{self, RunRow},
    },
};

/// The largest `run.json` that is read.
const MAX_SPEC: u64 = 1 << 20;

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum RunStatus {
    /// An engine works on it.
    Running,
    /// It waits in the queue.
    Queued,
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
        matches!(self, Self::Queued | Self::Stopped | Self::Interrupted | Self::Failed { .. })
    }
}

/// A run and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Run {
    /// What the list shows.
    #[serde(flatten)]
    pub row: RunRow,
    /// How it stands.
    #[serde(flatten)]
    pub status: RunStatus,
    /// Its place in the queue, the next one to begin at 1; absent where it does not wait.
    pub place: Option<usize>,
    /// Why it paused by itself, where it did: the disk is full, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// What its engine did last, or does now.
    pub phase: Option<Phase>,
    /// How far the download of its base model is, from when it begins until an engine takes the run up.
    pub download: Option<DownloadProgress>,
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps it has in all, once they are planned.
    pub total_steps: Option<u64>,
    /// Epochs done, with the fraction of the current one; absent until this engine's first step.
    pub epoch: Option<f64>,
    /// How often the whole dataset is gone through.
    pub num_train_epochs: u32,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// The most memory its engine has had resident, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The metrics measured last.
    pub metrics: BTreeMap<String, f64>,
    /// When something was first told of it, RFC 3339 UTC; absent while it waits.
    pub started_at: Option<String>,
    /// When its engine last told something, RFC 3339 UTC.
    pub updated_at: Option<String>,
}

impl Store {
    /// All runs, the newest first. Folders that came or went since are taken into account; a run whose description
    /// is damaged is not listed.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.reindex_runs()?;
        let rows = runs::all(&self.db()).map_err(|e| self.failed(e))?;
        let queue = self.queue()?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            match self.run_beside(&row.job_id, &queue) {
                Ok(run) => found.push(run),
                // Deleted since, or damaged: asking for that run by its id tells what is wrong with it.
                Err(
                    StoreError::UnknownRun(_) | StoreError::BadFile { .. } | StoreError::NewerFile { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// One run. Cheap to ask often: only what its engine has told since is read.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is none.
    pub fn run(&self, job_id: &str) -> Result<Run, StoreError> {
        self.run_beside(job_id, &self.queue()?)
    }

    fn run_beside(&self, job_id: &str, queue: &Queue) -> Result<Run, StoreError> {
        let job = self.run_folder(job_id)?;
        // Asked before the log is read: an engine lets go after its last word.
        let running = is_locked(&job.lock())?;
        let mut run = self.followed.run(&job, job_id)?;
        let place = queue.place(job_id).filter(|_| run.status != RunStatus::Completed);
        match (running, place) {
            (true, _) => run.status = RunStatus::Running,
            (false, Some(_)) => (run.status, run.place) = (RunStatus::Queued, place),
            (false, None) => {}
        }
        Ok(run)
    }

    /// What a run was asked to do.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is none.
    pub fn run_spec(&self, job_id: &str) -> Result<RunSpec, StoreError> {
        read_spec(&self.run_folder(job_id)?, job_id)
    }

    /// Puts a run whose folder has its `run.json` into the index.
    pub fn add_run(&self, spec: &RunSpec) -> Result<(), StoreError> {
        runs::put(&self.db(), &index_row(spec)).map_err(|e| self.failed(e))
    }

    /// Deletes a run with its log and checkpoints. The model it made stays; one that it was still writing goes.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is none, [`StoreError::RunActive`] while an engine works on it.
    pub fn delete_run(&self, job_id: &str) -> Result<(), StoreError> {
        let job = self.run_folder(job_id)?;
        // Held until the folder has lost its name, so that no engine takes it up meanwhile. Shared, so that others who
        // ask whether the run is active do not take this process for an engine.
        let held = share(&job.lock())?;
        if let Lock::Taken = held {
            return Err(StoreError::RunActive(job_id.to_owned()));
        }
        let run_json = job.run_json();
        match fs::remove_file(&run_json) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::UnknownRun(job_id.to_owned()));
            }
            Err(source) => return Err(StoreError::Io { doing: "delete", path: run_json, source }),
        }
        // Windows renames no folder with an open file in it; without `run.json` no engine can begin any more.
        drop(held);
        self.followed.forget(job_id);
        discard(&self.home().model_of(job_id)?.unfinished())?;
        discard(job.path())?;
        let db = self.db();
        current_run::remove(&db, job_id).and_then(|()| runs::remove(&db, job_id)).map_err(|e| self.failed(e))
    }

    /// Every whole line of a run's event log, in order. A line that cannot be read ends it.
    pub fn events(&self, job_id: &str) -> Result<Vec<EventLine>, StoreError> {
        self.events_after(job_id, None, usize::MAX)
    }

    /// At most `limit` lines of a run's event log, those after the line with the number `after`.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is no such run.
    pub fn events_after(
        &self,
        job_id: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<EventLine>, StoreError> {
        let mut tail = self.event_tail(job_id, after)?;
        let mut events = Vec::new();
        while events.len() < limit {
            let batch = tail.next_batch()?;
            if batch.is_empty() {
                break;
            }
            events.extend(batch);
        }
        events.truncate(limit);
        Ok(events)
    }

    /// All that a run's event log has told up to now, in bounded size.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is no such run.
    pub fn curve(&self, job_id: &str) -> Result<RunCurve, StoreError> {
        self.followed.curve(&self.run_folder(job_id)?, job_id)
    }

    /// Follows a run's event log as it grows, from its start or from the line after the one with the number `after`.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is no such run.
    pub fn event_tail(&self, job_id: &str, after: Option<u64>) -> Result<EventTail, StoreError> {
        self.followed.tail(&self.run_folder(job_id)?, job_id, after)
    }

    /// The run whose progress the app's status tells, kept over restarts; `None` once it is deleted.
    pub fn current_run(&self) -> Result<Option<String>, StoreError> {
        let kept = current_run::read(&self.db()).map_err(|e| self.failed(e))?;
        Ok(kept.filter(|job_id| self.run_folder(job_id).is_ok()))
    }

    /// Sets the run whose progress the app's status tells, or none.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] when there is no such run.
    pub fn set_current_run(&self, job_id: Option<&str>) -> Result<(), StoreError> {
        if let Some(job_id) = job_id {
            self.run_folder(job_id)?;
        }
        current_run::write(&self.db(), job_id).map_err(|e| self.failed(e))
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
                && let Ok(spec) = read_spec(&job, job_id)
            {
                self.add_run(&spec)?;
            }
        }
        for gone in indexed.difference(&on_disk) {
            runs::remove(&self.db(), gone).map_err(|e| self.failed(e))?;
            self.followed.forget(gone);
        }
        Ok(())
    }

    /// The folder of a run that is there.
    fn run_folder(&self, job_id: &str) -> Result<JobFolder, StoreError> {
        let job = self.home().run(job_id)?;
        if job.run_json().is_file() { Ok(job) } else { Err(StoreError::UnknownRun(job_id.to_owned())) }
    }
}

/// Whether a process holds the lock on this file.
fn is_locked(path: &Path) -> Result<bool, StoreError> {
    Ok(matches!(share(path)?, Lock::Taken))
}

/// What came of sharing a lock. Readers who ask at once do not take each other for an engine.
enum Lock {
    /// Nobody has held it yet.
    Absent,
    /// It is shared for as long as this lives.
    Shared(#[expect(dead_code, reason = "held, never read")] File),
    /// An engine has it.
    Taken,
}

fn share(path: &Path) -> Result<Lock, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lock::Absent),
        Err(source) => return Err(StoreError::Io { doing: "read", path: path.to_owned(), source }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Lock::Shared(file)),
        Err(TryLockError::WouldBlock) => Ok(Lock::Taken),
        Err(TryLockError::Error(source)) => {
            Err(StoreError::Io { doing: "lock", path: path.to_owned(), source })
        }
    }
}

pub(crate) fn read_spec(job: &JobFolder, job_id: &str) -> Result<RunSpec, StoreError> {
    let path = job.run_json();
    let spec: RunSpec = read_json(&path, MAX_SPEC).map_err(|error| match error {
        // It was deleted between the look and the reading.
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            StoreError::UnknownRun(job_id.to_owned())
        }
        error => error,
    })?;
    if spec.version != RunSpec::VERSION {
        return Err(StoreError::NewerFile { path, found: spec.version, known: RunSpec::VERSION });
    }
    Ok(spec)
}

pub(crate) fn index_row(spec: &RunSpec) -> RunRow {
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
