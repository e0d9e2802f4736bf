//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder `checkpoint-N` of three files. It is written under another name and renamed when it is
//! complete; the sizes and hashes in `checkpoint.json` tell later whether it still is. Writing is in [`write`], and who
//! writes while training goes on in [`saver`].

pub(crate) mod saver;
mod write;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{Tensor, Var};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use types::{JobFolder, TrainingConfig, files, manifest::FileHash};
pub(crate) use write::Snapshot;

use crate::{
    TrainError,
    optimizers::{Optimizer, StateEntry, StateValues},
    progress::Progress,
};

/// The largest description that is read; real ones have a few kilobytes.
const MAX_DESCRIPTION: u64 = 1 << 20;

const DESCRIPTION: &str = "checkpoint.json";
const ADAPTER: &str = "adapter_model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Names of folders that are being written or removed begin with this.
const UNFINISHED: &str = ".checkpoint-";

/// The content of `checkpoint.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    total_steps: u64,
    /// Every setting of the run as JSON text, so that comparing them is exact.
    config: BTreeMap<String, String>,
    progress: Progress,
    files: Vec<FileHash>,
}

impl Description {
    const VERSION: u32 = 1;
}

/// A complete checkpoint of a job.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    description: Description,
    adapter: Vec<u8>,
    optimizer: Vec<u8>,
    skipped: Vec<String>,
}

impl Checkpoint {
    /// The newest checkpoint of a job that is whole; `None` where the job has none at all.
    ///
    /// # Errors
    /// The job's folder cannot be read, all of its checkpoints are damaged (the error is that of the newest), or a
    /// checkpoint belongs to a run with other settings.
    pub fn newest(job: &JobFolder, config: &TrainingConfig) -> Result<Option<Self>, TrainError> {
        let steps = job.checkpoints().map_err(TrainError::file(job.path()))?;
        let mut damaged = None;
        let mut skipped = Vec::new();
        for step in steps.into_iter().rev() {
            match Self::read(&job.checkpoint(step), step) {
                Ok(mut checkpoint) => {
                    checkpoint.check_config(config)?;
                    checkpoint.skipped = skipped;
                    return Ok(Some(checkpoint));
                }
                Err(error @ TrainError::DamagedCheckpoint { .. }) => {
                    skipped.push(error.to_string());
                    damaged.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    /// The checkpoint of a job after a step.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub(crate) fn of_step(job: &JobFolder, step: u64) -> Result<Self, TrainError> {
        Self::read(&job.checkpoint(step), step)
    }

    /// The last step it contains.
    pub fn step(&self) -> u64 {
        self.description.progress.step
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with newer checkpoints that were passed over.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// What the run had done.
    pub(crate) fn progress(&self) -> &Progress {
        &self.description.progress
    }

    fn read(path: &Path, step: u64) -> Result<Self, TrainError> {
        let damaged = |problem: String| TrainError::DamagedCheckpoint { path: path.to_owned(), problem };
        let file = path.join(DESCRIPTION);
        let size = fs::metadata(&file).map_err(|e| damaged(format!("{DESCRIPTION}: {e}")))?.len();
        if size > MAX_DESCRIPTION {
            return Err(damaged(format!("{DESCRIPTION} has {size} bytes")));
        }
        let text = fs::read(&file).map_err(|e| damaged(format!("{DESCRIPTION}: {e}")))?;
        let description: Description =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("{DESCRIPTION}: {e}")))?;
        if description.version != Description::VERSION {
            let difference =
                format!("its layout has version {}, not {}", description.version, Description::VERSION);
            return Err(TrainError::ForeignCheckpoint { path: path.to_owned(), difference });
        }
        if description.progress.step != step {
            return Err(damaged(format!("it is of step {}", description.progress.step)));
        }
        let content = |name: &str| {
            let file = path.join(name);
            let listed = description.files.iter().find(|f| f.path == name);
            let listed = listed.ok_or_else(|| damaged(format!("{DESCRIPTION} does not list {name}")))?;
            let bad = |e: std::io::Error| damaged(format!("{name}: {e}"));
            let size = fs::metadata(&file).map_err(bad)?.len();
            if size != listed.bytes || files::sha256(&file).map_err(bad)? != listed.sha256 {
                return Err(damaged(format!("{name} is not the file that was written")));
            }
            fs::read(&file).map_err(bad)
        };
        let (adapter, optimizer) = (content(ADAPTER)?, content(OPTIMIZER)?);
        Ok(Self { path: path.to_owned(), description, adapter, optimizer, skipped: Vec::new() })
    }

    fn check_config(&self, config: &TrainingConfig) -> Result<(), TrainError> {
        let now = settings(config)?;
        let then = &self.description.config;
        // A setting that this version added is what it was without one.
        match then.keys().find(|name| now.get(*name) != then.get(*name)) {
            None => Ok(()),
            Some(name) => {
                let (was, is) = (text(then.get(name)), text(now.get(name)));
                Err(self.foreign(format!("{name} was {was}, now it is {is}")))
            }
        }
    }

    /// Puts the saved weights into the adapter and the saved state into the optimizers.
    ///
    /// # Errors
    /// They are of another model or another dataset.
    pub(crate) fn restore(
        &self,
        total_steps: u64,
        trainable: &[(String, Var)],
        optimizers: &mut [Box<dyn Optimizer>],
    ) -> Result<(), TrainError> {
        let then = self.description.total_steps;
        if then != total_steps {
            return Err(self.foreign(format!("it had {then} steps in all, this one has {total_steps}")));
        }
        self.restore_adapter(trainable)?;
        let saved = self.tensors(OPTIMIZER, &self.optimizer)?;
        for (name, entry) in state(trainable, optimizers) {
            let view =
                saved.tensor(&name).map_err(|_| self.foreign(format!("its optimizer has no {name}")))?;
            let fits = match (entry.values, view.dtype()) {
                (StateValues::F32(values), Dtype::F32) if view.data().len() == values.len() * 4 => {
                    values.copy_from_slice(&floats(view.data()));
                    true
                }
                (StateValues::U8(values), Dtype::U8) if view.data().len() == values.len() => {
                    values.copy_from_slice(view.data());
                    true
                }
                _ => false,
            };
            if !fits {
                return Err(self.foreign(format!("{name} has another size")));
            }
        }
        Ok(())
    }

    /// Puts the saved weights into the adapter.
    ///
    /// # Errors
    /// They are of another model.
    pub(crate) fn restore_adapter(&self, trainable: &[(String, Var)]) -> Result<(), TrainError> {
        let adapter = self.tensors(ADAPTER, &self.adapter)?;
        if adapter.len() != trainable.len() {
            let (then, now) = (adapter.len(), trainable.len());
            return Err(self.foreign(format!("its adapter has {then} tensors, this one has {now}")));
        }
        for (name, var) in trainable {
            let view =
                adapter.tensor(name).map_err(|_| self.foreign(format!("its adapter has no {name}")))?;
            if view.dtype() != Dtype::F32 || view.shape() != var.dims() {
                let (then, now) = (view.shape(), var.dims());
                return Err(self.foreign(format!("{name} was {then:?}, now it is {now:?}")));
            }
            var.set(&Tensor::from_vec(floats(view.data()), var.dims(), var.device())?)?;
        }
        Ok(())
    }

    fn tensors<'a>(&self, name: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>, TrainError> {
        SafeTensors::deserialize(bytes).map_err(|e| TrainError::DamagedCheckpoint {
            path: self.path.clone(),
            problem: format!("{name}: {e}"),
        })
    }

    pub(crate) fn foreign(&self, difference: String) -> TrainError {
        TrainError::ForeignCheckpoint { path: self.path.clone(), difference }
    }
}

/// Removes a checkpoint so that no half of one ever carries its name.
pub(crate) fn remove(job: &JobFolder, step: u64) -> Result<(), TrainError> {
    let doomed = job.path().join(format!("{UNFINISHED}{step}.removing"));
    fs::rename(job.checkpoint(step), &doomed).map_err(TrainError::file(job.checkpoint(step)))?;
    fs::remove_dir_all(&doomed).map_err(TrainError::file(&doomed))
}

/// Removes the checkpoints up to that of `progress` which it makes needless: all but the newest `kept` and the best.
///
/// # Errors
/// The job's folder cannot be read, or a checkpoint cannot be removed.
pub(crate) fn remove_superseded(job: &JobFolder, progress: &Progress, kept: usize) -> Result<(), TrainError> {
    let mut steps = job.checkpoints().map_err(TrainError::file(job.path()))?;
    steps.retain(|&step| step <= progress.step);
    let best = progress.best.map(|best| best.step);
    for step in steps.into_iter().rev().skip(kept).filter(|&step| Some(step) != best) {
        remove(job, step)?;
    }
    Ok(())
}

/// Removes checkpoints that a killed engine was writing or removing.
///
/// # Errors
/// The job's folder cannot be read, or such a checkpoint cannot be removed.
pub fn clear_unfinished(job: &JobFolder) -> Result<(), TrainError> {
    for entry in fs::read_dir(job.path()).map_err(TrainError::file(job.path()))? {
        let path = entry.map_err(TrainError::file(job.path()))?.path();
        if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(UNFINISHED)) {
            fs::remove_dir_all(&path).map_err(TrainError::file(&path))?;
        }
    }
    Ok(())
}

fn settings(config: &TrainingConfig) -> Result<BTreeMap<String, String>, TrainError> {
    let value = serde_json::to_value(config).map_err(candle_core::Error::wrap)?;
    let fields = value.as_object().into_iter().flatten();
    Ok(fields.map(|(name, value)| (name.clone(), value.to_string())).collect())
}

fn text(setting: Option<&String>) -> &str {
    setting.map_or("not set", String::as_str)
}

/// Everything the optimizers remember, each piece with its name.
fn state<'a>(
    trainable: &'a [(String, Var)],
    optimizers: &'a mut [Box<dyn Optimizer>],
) -> impl Iterator<Item = (String, StateEntry<'a>)> {
    trainable.iter().zip(optimizers).flat_map(|((tensor, _), optimizer)| {
        optimizer.state().into_iter().map(move |entry| (format!("{tensor}.{}", entry.name), entry))
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
