//! What a training engine tells while it works: one JSON object a line, on its standard output and in `events.jsonl`.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fallback, JobFolder, TrainingResult};

/// Evaluation rows whose prompts a model in training is asked.
pub const SAMPLED_ROWS: usize = 3;
/// The longest answer to one of them, in tokens.
pub const SAMPLED_TOKENS: usize = 64;
/// The longest answer that is scored, in tokens; where the rows' own answers are shorter, the longest of those, but no less than
/// [`SAMPLED_TOKENS`].
pub const SCORED_TOKENS: usize = 256;

/// One line of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// Counts from 0 over the whole run, resumed parts included.
    pub seq: u64,
    /// When it happened, RFC 3339 UTC.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: TrainEvent,
}

impl EventLine {
    /// Reads one line of a log. Steps are most of them and have a shorter way than what any event can be.
    ///
    /// # Errors
    /// The line is no event.
    pub fn parse(line: &[u8]) -> serde_json::Result<Self> {
        let Some((seq, time)) = step_head(line) else { return serde_json::from_slice(line) };
        Ok(Self { seq, time: time.to_owned(), event: TrainEvent::Step(serde_json::from_slice(line)?) })
    }
}

/// Number and time of a step's line as it is written; another spelling of the same has the longer way.
fn step_head(line: &[u8]) -> Option<(u64, &str)> {
    let rest = line.strip_prefix(br#"{"seq":"#)?;
    let (seq, rest) = rest.split_at_checked(rest.iter().position(|byte| !byte.is_ascii_digit())?)?;
    let rest = rest.strip_prefix(br#","time":""#)?;
    let (time, rest) = rest.split_at_checked(rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?)?;
    rest.strip_prefix(br#"","event":"step","#)?;
    Some((str::from_utf8(seq).ok()?.parse().ok()?, str::from_utf8(time).ok()?))
}

/// The part of a run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching the base model from the Hub, before the engine begins.
    Downloading,
    /// Reading, checking and tokenizing the dataset.
    PreparingData,
    /// Reading the base model.
    LoadingModel,
    /// Training a reward model on pairs of answers, before the first step.
    RewardModel,
    /// Finding what the base model finds of both answers of each pair, before the first step.
    Reference,
    /// Optimizer steps.
    Training,
    /// Loss on the evaluation rows, and what the model answers to some of them.
    Evaluating,
    /// Writing the model's folder.
    Saving,
}

/// How far the download of a base model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DownloadProgress {
    /// The file that is being fetched, as the repository names it.
    pub file: String,
    /// Bytes that are there, of all files together; what was there before counts.
    pub bytes: u64,
    /// Bytes of all files together.
    pub total_bytes: u64,
}

/// Measured values of one optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepStats {
    /// Counts from 1.
    pub step: u64,
    /// How many steps the whole run has.
    pub total_steps: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// The loss of the whole accumulated batch: with sft and qlora the mean negative log-likelihood per trained token, with dpo
    /// the mean per pair.
    pub loss: f64,
    /// The learning rate this step used.
    pub learning_rate: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Tokens computed in this step.
    pub tokens: u64,
    /// Of those, tokens the loss counts.
    pub trained_tokens: u64,
    /// Time of this step.
    pub step_ms: f64,
    /// Training time so far, earlier parts of a resumed run included.
    pub elapsed_ms: u64,
    /// What the strategy measured besides, by name: `rewards/margins`, `kl`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub metrics: BTreeMap<String, f64>,
}

impl TrainEvent {
    /// A run that cannot go on for now, at its newest checkpoint.
    pub fn halted(job: &JobFolder, reason: String) -> Self {
        let step = job.checkpoints().ok().and_then(|steps| steps.last().copied());
        Self::Halted { step: step.unwrap_or(0), checkpoint: step.map(|step| job.checkpoint(step)), reason }
    }
}

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    /// An engine took up the job.
    Started {
        /// The job.
        job_id: String,
        /// The engine's process id.
        pid: u32,
        /// Version of the engine.
        version: String,
        /// The step of the checkpoint it goes on from.
        resumed_from: Option<u64>,
    },
    /// A part of the run begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// The base model is being fetched; told at most twice a second.
    Download(DownloadProgress),
    /// The dataset is tokenized and the steps are planned.
    Prepared {
        /// Rows to train on.
        train_rows: u64,
        /// Rows to evaluate on.
        eval_rows: u64,
        /// Rows cut to the longest length.
        truncated_rows: u64,
        /// Rows left out (with a reason in a warning before).
        skipped_rows: u64,
        /// Tokens of one epoch.
        tokens_per_epoch: u64,
        /// Of those, tokens the loss counts.
        trained_tokens_per_epoch: u64,
        /// The longest length in force.
        max_seq_length: u64,
        /// Optimizer steps of the whole run.
        total_steps: u64,
    },
    /// The base model is in memory and the adapter is attached.
    Loaded {
        /// Architecture as `config.json` names it.
        architecture: String,
        /// Parameters of the base model.
        parameters: u64,
        /// Parameters of the adapter.
        trainable_parameters: u64,
        /// dtype of the base weights.
        dtype: String,
        /// Where it computes.
        device: String,
    },
    /// An optimizer step was done.
    Step(StepStats),
    /// Memory of the engine, measured: at the first step and whenever the peak has grown by more than 5 %. Systems that do
    /// not tell have no such event.
    Memory {
        /// The most it has had resident so far, in bytes.
        peak_bytes: u64,
        /// What it has resident now, in bytes.
        current_bytes: u64,
    },
    /// The evaluation rows were measured.
    Eval {
        /// After this step; 0 is the base model.
        step: u64,
        /// Values by metric name: `eval_loss`, `perplexity`, `rewards/accuracies`, …
        metrics: BTreeMap<String, f64>,
        /// Rows whose answers were scored; absent where none were.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        answered_rows: Option<u64>,
    },
    /// What the model in training answers to the prompt of an evaluation row: before the first step and after each
    /// evaluation, for the first few rows.
    Sample {
        /// After this step; 0 is the base model.
        step: u64,
        /// What was asked.
        prompt: String,
        /// The answer, made of the likeliest tokens.
        text: String,
        /// The row's own answer.
        reference: String,
    },
    /// A checkpoint is complete on disk.
    Checkpoint {
        /// After this step.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// Something the person should know that does not end the run.
    Warning {
        /// What.
        message: String,
    },
    /// An engine ran out of memory. The run goes on from its last checkpoint with less at a time.
    OutOfMemory {
        /// What it computes with from now on.
        fallback: Fallback,
    },
    /// The run was asked to pause and can be resumed.
    Stopped {
        /// The last step done.
        step: u64,
        /// The checkpoint to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// The run paused by itself, since it cannot go on for now: the disk is full, for example. It can be resumed.
    Halted {
        /// The step of the checkpoint to go on from; 0 where there is none.
        step: u64,
        /// The checkpoint to go on from.
        checkpoint: Option<PathBuf>,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The run is over: the model is complete, or it failed.
    Finished {
        /// How.
        result: TrainingResult,
        /// Final values by metric name.
        metrics: BTreeMap<String, f64>,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_reads_the_same_on_either_way() {
        let step = json!({
            "step": 7, "total_steps": 9, "epoch": 0.5, "loss": 1.25, "learning_rate": 2e-4, "grad_norm": 0.3, "tokens": 512,
            "trained_tokens": 100, "step_ms": 12.5, "elapsed_ms": 90, "metrics": {"kl": 0.25},
        });
        let step: StepStats = serde_json::from_value(step).unwrap();
        let tricky = r#","event":"step","#;
        for event in [
            TrainEvent::Step(StepStats { metrics: BTreeMap::new(), ..step.clone() }),
            TrainEvent::Step(step),
            TrainEvent::Warning { message: tricky.into() },
            TrainEvent::Phase { phase: Phase::Training },
        ] {
            let line = EventLine { seq: 41, time: "2026-01-01T00:00:00Z".into(), event };
            let text = serde_json::to_vec(&line).unwrap();
            assert_eq!(EventLine::parse(&text).unwrap(), line);
            assert_eq!(serde_json::from_slice::<EventLine>(&text).unwrap(), line);
            assert!(EventLine::parse(&text[..text.len() - 2]).is_err(), "half a line is none");
        }
        assert!(EventLine::parse(br#"{"seq":1,"time":"x","event":"step"}"#).is_err(), "a step has numbers");
    }
}
