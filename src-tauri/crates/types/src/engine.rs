//! What the app and its engines say to each other.
//!
//! A training engine tells its events ([`TrainEvent`](crate::TrainEvent)) and takes its orders from a file of the job folder,
//! so that any process can give them. A chat engine, a probe and a calibration speak one JSON object a line on their standard
//! streams.

use std::{fs, io, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GenerateParams, GenerateStats, JobFolder, Message, Phase, files};

/// How an engine ends, by its exit code.
pub mod exit {
    /// It did what it was asked for; of a run, that it is finished or paused.
    pub const SUCCESS: u8 = 0;
    /// It failed, and has said why.
    pub const FAILURE: u8 = 1;
    /// It was not asked as engines are.
    pub const USAGE: u8 = 2;
    /// Another engine has the job.
    pub const BUSY: u8 = 3;
    /// The system gave it no more memory.
    pub const OUT_OF_MEMORY: u8 = 4;
    /// The disk is so full that not even that could be written to the log.
    pub const DISK_FULL: u8 = 5;
    /// The card that it computed on does not answer any more.
    pub const CARD_LOST: u8 = 6;
}

/// The name of the processor where events name the device that computes.
pub const PROCESSOR: &str = "cpu";

/// The environment variable that tells an engine why it computes on the processor though there is a card.
pub const NOT_ON_CARD: &str = "MODELFORGE_NOT_ON_CARD";

/// An order to the training engine of a job: the content of the job's `control.json`. The newest order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "snake_case", deny_unknown_fields)]
pub enum Control {
    /// Finish the step, write a checkpoint and end; the run can be resumed.
    Pause,
    /// Do no more steps: measure, and make the model as it is now. Before the first step there is nothing to keep, and the
    /// run is paused instead.
    Finish,
}

impl Control {
    /// The largest order that is read.
    const MAX_BYTES: u64 = 4 << 10;

    /// Gives this order to whichever engine works on the job. One that has ended never sees it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn give(self, job: &JobFolder) -> io::Result<()> {
        files::write_json(&job.control(), &self)
    }

    /// Takes up the order that lies in the job folder, if there is one: it is gone from there then.
    ///
    /// # Errors
    /// The file cannot be read or removed; `InvalidData` where it holds no order, and then it is gone too.
    pub fn take(job: &JobFolder) -> io::Result<Option<Self>> {
        let size = match fs::metadata(job.control()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?.len(),
        };
        let text = if size > Self::MAX_BYTES { Vec::new() } else { fs::read(job.control())? };
        Self::withdraw(job)?;
        serde_json::from_slice(&text).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Removes an order that nobody has taken up, so that it does not end the next engine.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn withdraw(job: &JobFolder) -> io::Result<()> {
        match fs::remove_file(job.control()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// A line of a probe (`engine probe <job folder>`), which ends with a report or an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeLine {
    /// A part begins.
    Phase(Phase),
    /// A step was done.
    Step(ProbeStep),
    /// The end.
    Report(ProbeReport),
    /// The end, with what is wrong and how to mend it.
    Error(String),
}

/// What a dry run measured: the run's own data and model, its two heaviest optimizer steps, and nothing kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    /// Time to load the model.
    pub load_ms: f64,
    /// Time to read and tokenize the dataset.
    pub prepare_ms: f64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// The steps that were done, at most two.
    pub steps: Vec<ProbeStep>,
    /// The most memory the engine had resident, in bytes; absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_memory_bytes: Option<u64>,
    /// Where it computed.
    pub device: String,
    /// How long the whole run would take, evaluation included: its planned tokens at the measured speed.
    pub estimated_total_seconds: f64,
}

/// One optimizer step of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeStep {
    /// Time of this step.
    pub step_ms: f64,
    /// Tokens computed in it.
    pub tokens: u64,
    /// Mean loss per trained token.
    pub loss: f64,
}

/// How fast this machine computes (`engine calibrate`), in rates per second: the median of repeated runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Where it computes.
    pub device: String,
    /// Threads that compute.
    pub threads: usize,
    /// Floating-point operations of a product of activations with f32 weights, a multiplication and an addition as two.
    pub matmul_f32_flops: f64,
    /// The same with bf16 weights.
    pub matmul_bf16_flops: f64,
    /// Bytes moved by all threads copying, read and written.
    pub memory_bytes_per_second: f64,
}

/// A request to a chat engine. Every reply carries the `id` of its request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineRequest {
    /// Chosen by the caller; unique while the request is open.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub command: EngineCommand,
}

/// What a chat engine can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum EngineCommand {
    /// Load a model; replaces the one loaded before.
    Load {
        /// Folder of the base model.
        base_dir: PathBuf,
        /// Folder of the adapter to put on it.
        adapter_dir: Option<PathBuf>,
    },
    /// Generate an answer, streamed as [`EngineReply::Token`]s.
    Generate {
        /// The conversation so far, or the raw prompt.
        input: PromptInput,
        /// Sampling settings.
        params: GenerateParams,
        /// Answer with the adapter off: the base model's answer.
        #[serde(default)]
        without_adapter: bool,
    },
    /// End the generation with this id; its `Done` reply still comes.
    Cancel {
        /// The id of the `generate` request.
        target: u64,
    },
    /// Free the model.
    Unload,
    /// End the engine.
    Shutdown,
}

/// What the model is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptInput {
    /// A conversation, put through the model's chat template.
    Messages(Vec<Message>),
    /// Text taken as it is, without template.
    Text(String),
}

/// A line of a chat engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineReplyLine {
    /// The request this answers.
    pub id: u64,
    /// The answer.
    #[serde(flatten)]
    pub reply: EngineReply,
}

/// The layers of a model that a card has no room for as a whole; the others are computed on the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerSplit {
    /// Layers that the card computes.
    pub on_card: usize,
    /// Layers of the model.
    pub total: usize,
}

/// What a chat engine answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum EngineReply {
    /// The model is in memory.
    Loaded {
        /// Architecture as `config.json` names it.
        architecture: String,
        /// Parameters, adapter included.
        parameters: u64,
        /// The longest prompt and answer together, in tokens.
        context_length: usize,
        /// Where it computes.
        device: String,
        /// Where not all of it is computed there, how much is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        split: Option<LayerSplit>,
    },
    /// The next piece of text.
    Token {
        /// Whole characters only.
        text: String,
    },
    /// The answer is complete.
    Done {
        /// All of the text.
        text: String,
        /// What it took.
        stats: GenerateStats,
    },
    /// The request has been carried out and has nothing more to say.
    Ok,
    /// The request failed; the engine goes on.
    Error {
        /// What is wrong and how to mend it.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_up_once_and_the_newest_counts() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path());
        assert_eq!(Control::take(&job).unwrap(), None, "without a file there is no order");
        Control::Pause.give(&job).unwrap();
        Control::Finish.give(&job).unwrap();
        assert_eq!(Control::take(&job).unwrap(), Some(Control::Finish));
        assert_eq!(Control::take(&job).unwrap(), None, "an order that was taken up is gone");
        Control::Pause.give(&job).unwrap();
        Control::withdraw(&job).unwrap();
        Control::withdraw(&job).unwrap();
        assert_eq!(Control::take(&job).unwrap(), None, "a withdrawn order is gone");
        assert_eq!(serde_json::to_string(&Control::Pause).unwrap(), r#"{"control":"pause"}"#);
    }

    #[test]
    fn what_is_no_order_is_told_and_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path());
        for text in ["", "{}", r#"{"control":"explode"}"#, "\0\0", &" ".repeat(5000)] {
            files::write(&job.control(), text.as_bytes()).unwrap();
            assert_eq!(Control::take(&job).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:.20?}");
            assert!(!job.control().exists(), "it would be told again at every step");
        }
    }

    #[test]
    fn lines_of_a_probe_are_told_apart_by_their_key() {
        for (line, want) in [
            (ProbeLine::Phase(Phase::LoadingModel), r#"{"phase":"loading_model"}"#),
            (ProbeLine::Error("no".into()), r#"{"error":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&line).unwrap(), want);
        }
    }
}
