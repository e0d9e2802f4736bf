//! A chat engine and the models it can load.

use std::{
    collections::VecDeque,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use data::{PromptParts, prompt_for};
use schemars::JsonSchema;
use serde::Serialize;
use store::{BaseModel, StoreError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
};
use types::{
    ApiError, GenerateParams, GenerateStats, Manifest, Task,
    engine::{EngineCommand, EngineReply, EngineReplyLine, EngineRequest, LayerSplit, PromptInput},
};

use crate::{Api, Launcher, run::describe};

/// Lines of an engine's standard error that are kept to explain its end.
const KEPT_LINES: usize = 20;

/// A model that one can talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatModel {
    /// As people know it.
    pub name: String,
    /// Its id; none for a base model.
    pub model_id: Option<String>,
    /// The base model's folder.
    pub base_dir: PathBuf,
    /// The adapter's folder, for a fine-tuned model.
    pub adapter_dir: Option<PathBuf>,
    /// What it was fine-tuned to do.
    pub task: Option<Task>,
}

/// What an engine tells of the model it loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LoadedModel {
    /// Architecture as `config.json` names it.
    pub architecture: String,
    /// Parameters, adapter included.
    pub parameters: u64,
    /// The longest prompt and answer together, in tokens.
    pub context_length: usize,
    /// Where it computes.
    pub device: String,
    /// Where not all of it is computed there, how much is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<LayerSplit>,
}

/// A process that holds one model and answers. Dropping it ends the process.
pub struct ChatEngine {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    last_id: u64,
    /// A generation that was left before its end.
    abandoned: Option<u64>,
}

/// An answer as it comes.
pub struct Generation<'a> {
    engine: &'a mut ChatEngine,
    id: u64,
    done: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Piece {
    /// More text, whole characters only.
    Text {
        /// The text.
        text: String,
    },
    /// The end.
    Done {
        /// All of the text.
        text: String,
        /// What it took.
        stats: GenerateStats,
    },
}

impl ChatModel {
    /// Its id, or its name where it is a base model.
    pub fn id(&self) -> &str {
        self.model_id.as_deref().unwrap_or(&self.name)
    }
}

/// The person's words as a model for this task was trained to read them. `context` is the text that holds the answer to a
/// question.
pub fn ask(task: Option<Task>, context: Option<&str>, text: &str) -> String {
    let task = task.unwrap_or(Task::TextGeneration);
    match context {
        Some(context) => {
            let parts = PromptParts { text: context, question: Some(text) };
            prompt_for(Task::ExtractiveQuestionAnswering, parts)
        }
        None => prompt_for(task, PromptParts { text, question: None }),
    }
}

impl Api {
    /// The model that a name stands for: a finished model's id or name, or a base model.
    ///
    /// # Errors
    /// 404 for an unknown id, 403 for a base model that cannot be reached, 400 for a name that several models have and
    /// for a base model that has changed since.
    pub fn chat_model(&self, name: &str) -> Result<ChatModel, ApiError> {
        // What looks like an id is one: a misspelt id is an unknown model, not a repository.
        if name.starts_with("model_") && !std::path::Path::new(name).is_dir() {
            return self.finished_model(name);
        }
        let named: Vec<String> =
            self.store.models()?.into_iter().filter(|row| row.name == name).map(|row| row.model_id).collect();
        match named.as_slice() {
            [] => {
                let base = BaseModel::find(name, &self.resources)?;
                Ok(ChatModel {
                    name: base.name,
                    model_id: None,
                    base_dir: base.dir,
                    adapter_dir: None,
                    task: None,
                })
            }
            [one] => self.finished_model(one),
            many => {
                let text =
                    format!("{} models are named {name}; give the id: {}", many.len(), many.join(", "));
                Err(ApiError::bad_request(text))
            }
        }
    }

    /// Starts a chat engine and loads a model into it.
    pub async fn chat(&self, model: &ChatModel) -> Result<(ChatEngine, LoadedModel), ApiError> {
        let mut engine = ChatEngine::start(self.launcher.as_ref())?;
        let loaded = engine.load(model).await?;
        Ok((engine, loaded))
    }

    /// The base model of a finished model.
    ///
    /// # Errors
    /// As [`BaseModel::find`], for the name that its run gave.
    pub(crate) fn base_of(&self, manifest: &Manifest) -> Result<BaseModel, StoreError> {
        // By name first: bundled files and caches move with the installation, folders have their path as name.
        BaseModel::find(&manifest.base_model.name, &self.resources).or_else(|error| {
            let path = manifest.base_model.path.to_string_lossy();
            BaseModel::find(&path, &self.resources).map_err(|_| error)
        })
    }

    /// A finished model with its base, which must be as it was in training.
    pub(crate) fn finished_model(&self, model_id: &str) -> Result<ChatModel, ApiError> {
        let manifest = self.store.model(model_id)?.manifest;
        let base = self.base_of(&manifest)?;
        if let Some(file) = base.changed(&manifest.base_model.files) {
            return Err(ApiError::bad_request(format!(
                "{model_id} was trained on another version of {}: {} in {} has changed since",
                base.name,
                file.path,
                base.dir.display()
            )));
        }
        Ok(ChatModel {
            name: manifest.name,
            model_id: Some(model_id.to_owned()),
            base_dir: base.dir,
            adapter_dir: Some(self.store.home().model(model_id)?.path().to_owned()),
            task: Some(manifest.config.task),
        })
    }
}

impl ChatEngine {
    fn start(launcher: &dyn Launcher) -> Result<Self, ApiError> {
        let not_started =
            |e: std::io::Error| ApiError::internal(format!("the chat engine did not start: {e}"));
        let mut child = launcher.launch(&["chat".as_ref()], Stdio::piped()).map_err(not_started)?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(ApiError::internal("the chat engine has no standard streams"));
        };
        let last_words = Arc::default();
        tokio::spawn(keep_last_lines(errors, Arc::clone(&last_words)));
        let lines = BufReader::new(output).lines();
        Ok(Self { child, input, lines, last_words, last_id: 0, abandoned: None })
    }

    /// Loads a model in place of the one before.
    pub async fn load(&mut self, model: &ChatModel) -> Result<LoadedModel, ApiError> {
        let ChatModel { base_dir, adapter_dir, .. } = model.clone();
        let id = self.send(EngineCommand::Load { base_dir, adapter_dir }).await?;
        match self.receive(id).await? {
            EngineReply::Loaded { architecture, parameters, context_length, device, split } => {
                Ok(LoadedModel { architecture, parameters, context_length, device, split })
            }
            EngineReply::Error { message } => Err(ApiError::bad_request(message)),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts an answer. `without_adapter` gives the base model's.
    ///
    /// # Errors
    /// 400 for sampling settings out of range; 500 when the engine has ended.
    pub async fn generate(
        &mut self,
        input: PromptInput,
        params: GenerateParams,
        without_adapter: bool,
    ) -> Result<Generation<'_>, ApiError> {
        if let Some((field, problem)) = params.problems().into_iter().next() {
            return Err(ApiError::invalid(vec![types::FieldError::value(field, problem)]));
        }
        if let Some(target) = self.abandoned.take() {
            self.send(EngineCommand::Cancel { target }).await?;
        }
        let id = self.send(EngineCommand::Generate { input, params, without_adapter }).await?;
        Ok(Generation { engine: self, id, done: false })
    }

    /// Ends the engine in good order.
    pub async fn shutdown(mut self) -> Result<(), ApiError> {
        if let Some(target) = self.abandoned.take() {
            self.send(EngineCommand::Cancel { target }).await?;
        }
        self.send(EngineCommand::Shutdown).await?;
        self.child.wait().await.map_err(ApiError::internal)?;
        Ok(())
    }

    async fn send(&mut self, command: EngineCommand) -> Result<u64, ApiError> {
        self.last_id += 1;
        let id = self.last_id;
        let mut line = serde_json::to_vec(&EngineRequest { id, command }).map_err(ApiError::internal)?;
        line.push(b'\n');
        match self.input.write_all(&line).await {
            Ok(()) => Ok(id),
            Err(_) => Err(self.death().await),
        }
    }

    /// The next reply to request `id`; replies to requests that nobody waits for any more are passed over.
    async fn receive(&mut self, id: u64) -> Result<EngineReply, ApiError> {
        while let Some(line) = self.lines.next_line().await.map_err(ApiError::internal)? {
            let line: EngineReplyLine = serde_json::from_str(&line)
                .map_err(|e| ApiError::internal(format!("the chat engine said something unreadable: {e}")))?;
            if line.id == id {
                return Ok(line.reply);
            }
        }
        Err(self.death().await)
    }

    async fn death(&mut self) -> ApiError {
        let reason = self.child.wait().await.map_or_else(|e| e.to_string(), describe);
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = words.iter().map(|line| format!("\n{line}")).collect::<String>();
        ApiError::internal(format!("the chat engine {reason}{words}"))
    }
}

impl Drop for ChatEngine {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        self.child.start_kill().ok();
    }
}

impl Generation<'_> {
    /// The next part of the answer. Safe to cancel. Not to be asked again after [`Piece::Done`].
    ///
    /// # Errors
    /// 400 when the engine refuses the request, 500 when it has ended.
    pub async fn next(&mut self) -> Result<Piece, ApiError> {
        let reply = self.engine.receive(self.id).await;
        self.done = !matches!(reply, Ok(EngineReply::Token { .. }));
        match reply? {
            EngineReply::Token { text } => Ok(Piece::Text { text }),
            EngineReply::Done { text, stats } => Ok(Piece::Done { text, stats }),
            EngineReply::Error { message } => Err(ApiError::bad_request(message)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for an early end; [`Piece::Done`] with the text so far still comes.
    pub async fn cancel(&mut self) -> Result<(), ApiError> {
        self.engine.send(EngineCommand::Cancel { target: self.id }).await.map(drop)
    }

    /// Reads to the end and gives the whole answer.
    pub async fn finish(mut self) -> Result<(String, GenerateStats), ApiError> {
        loop {
            if let Piece::Done { text, stats } = self.next().await? {
                return Ok((text, stats));
            }
        }
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.engine.abandoned = Some(self.id);
        }
    }
}

async fn keep_last_lines(errors: ChildStderr, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

fn unexpected(reply: &EngineReply) -> ApiError {
    ApiError::internal(format!("the chat engine gave an answer that does not fit: {reply:?}"))
}
