//! What the app and a chat engine say to each other: one JSON object a line on the engine's standard streams.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{GenerateParams, GenerateStats, Message};

/// What a training engine reads on its standard input. The end of the input says nothing: the run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum TrainCommand {
    /// Finish the step, write a checkpoint and end.
    Stop,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
