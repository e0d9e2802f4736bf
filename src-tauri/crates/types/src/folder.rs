//! The layout of the folders that the app and the engine share.

use std::path::{Path, PathBuf};

use crate::Manifest;

/// A job's folder: `run.json`, `events.jsonl`, `checkpoint-N/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFolder(PathBuf);

impl JobFolder {
    /// The folder at `path`; nothing is read or made.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The run's immutable description.
    pub fn run_json(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The append-only event log.
    pub fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    /// Locked by the engine that works on the job, for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.0.join("engine.lock")
    }

    /// An order to the engine that works on the job: see [`Control`](crate::engine::Control).
    pub fn control(&self) -> PathBuf {
        self.0.join("control.json")
    }

    /// Hashes of the base model and the dataset the run started with: a resumed run must find the same.
    pub fn inputs(&self) -> PathBuf {
        self.0.join("inputs.json")
    }

    /// What the run computes with since it ran out of memory: see [`Fallback`](crate::Fallback).
    pub fn fallback(&self) -> PathBuf {
        self.0.join("fallback.json")
    }

    /// Room on the disk that the engine has set aside, so that it can tell of a disk that is full.
    pub fn reserve(&self) -> PathBuf {
        self.0.join(".reserve")
    }

    /// Tokenized rows, made again when absent.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// The folder of the checkpoint after `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.0.join(format!("checkpoint-{step}"))
    }

    /// Steps of the complete checkpoints, ascending. A checkpoint is complete once it has its final name.
    pub fn checkpoints(&self) -> std::io::Result<Vec<u64>> {
        let mut steps = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            if let Some(step) =
                name.to_str().and_then(|n| n.strip_prefix("checkpoint-")).and_then(|n| n.parse().ok())
            {
                steps.push(step);
            }
        }
        steps.sort_unstable();
        Ok(steps)
    }
}

/// The folder of a reward model within that of a job, and of the model that was tuned with it.
pub const REWARD_MODEL: &str = "reward_model";

/// A fine-tuned model's folder in PEFT's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder(PathBuf);

impl ModelFolder {
    /// The folder at `path`; nothing is read or made.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder beside it that a model is written into before it gets its name. No id begins so: nothing takes it for a model.
    pub fn unfinished(&self) -> PathBuf {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.0.with_file_name(format!(".{name}.writing"))
    }

    /// The adapter's weights.
    pub fn adapter_weights(&self) -> PathBuf {
        self.0.join("adapter_model.safetensors")
    }

    /// The adapter's description, as PEFT writes it.
    pub fn adapter_config(&self) -> PathBuf {
        self.0.join("adapter_config.json")
    }

    /// The manifest; a folder without it is incomplete.
    pub fn manifest(&self) -> PathBuf {
        self.0.join(Manifest::FILE)
    }

    /// The model card.
    pub fn card(&self) -> PathBuf {
        self.0.join("README.md")
    }
}
