//! The one model in memory that answers: loading, answering one question at a time, and letting go of the memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Notify, OwnedMutexGuard, mpsc};
use types::{ApiError, GenerateParams, engine::PromptInput};

use crate::{Api, ChatEngine, ChatModel, LoadedModel, Piece, Topic, changes::Changes};

/// What is to be answered, and how.
pub(crate) struct Question {
    pub prompt: PromptInput,
    pub params: GenerateParams,
    /// Answers as the base model does.
    pub without_adapter: bool,
}

/// The model in memory.
pub(crate) struct Playground {
    changes: Changes,
    engine: Arc<tokio::sync::Mutex<Option<Loaded>>>,
    told: Arc<Mutex<Told>>,
    cancel: Arc<Notify>,
    answers: AtomicU64,
}

struct Loaded {
    model: ChatModel,
    engine: ChatEngine,
}

/// What can be told without waiting for an answer that is under way.
#[derive(Default)]
struct Told {
    loaded: Option<(String, LoadedModel)>,
    answering: usize,
    /// How often each model is in use: answering, waiting for its turn, being pushed or exported.
    holds: HashMap<String, usize>,
}

/// What is in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlaygroundStatus {
    /// The finished model's id, or the base model's name.
    pub model_id: Option<String>,
    /// What was loaded.
    pub model: Option<LoadedModel>,
    /// Whether an answer is under way.
    pub answering: bool,
}

/// A model that must stay as it is meanwhile.
pub(crate) struct Hold {
    told: Arc<Mutex<Told>>,
    model: String,
}

impl Playground {
    /// With nothing in memory.
    pub fn new(changes: Changes) -> Self {
        Self {
            changes,
            engine: Default::default(),
            told: Default::default(),
            cancel: Default::default(),
            answers: Default::default(),
        }
    }

    /// Keeps a model from being deleted for as long as this is held.
    pub fn hold(&self, model: &str) -> Hold {
        *self.told().holds.entry(model.to_owned()).or_default() += 1;
        Hold { told: Arc::clone(&self.told), model: model.to_owned() }
    }

    /// Takes a model out of memory so that it can be deleted. No answer begins while the result is held.
    ///
    /// # Errors
    /// 400 while it is in use.
    pub async fn release(&self, model_id: &str) -> Result<Option<impl Drop + use<>>, ApiError> {
        let in_use = || {
            let text = format!(
                "Model {model_id} is in use: it is answering, being pushed or exported. Wait, or cancel that first."
            );
            ApiError::bad_request(text)
        };
        let held = || self.told().holds.contains_key(model_id);
        if held() {
            return Err(in_use());
        }
        let loaded = self.told().loaded.as_ref().is_some_and(|(id, _)| id == model_id);
        if !loaded {
            return Ok(None);
        }
        let mut engine = Arc::clone(&self.engine).lock_owned().await;
        if held() {
            return Err(in_use());
        }
        if engine.as_ref().is_some_and(|loaded| loaded.model.id() == model_id) {
            self.empty(&mut engine).await;
        }
        Ok(Some(engine))
    }

    /// What is in memory.
    pub fn status(&self) -> PlaygroundStatus {
        let told = self.told();
        let (model_id, model) = told.loaded.clone().unzip();
        PlaygroundStatus { model_id, model, answering: told.answering > 0 }
    }

    /// Ends the answer that is under way; false where there is none.
    pub fn cancel(&self) -> bool {
        let answering = self.told().answering > 0;
        self.cancel.notify_waiters();
        answering
    }

    /// Frees the memory once the answers under way are done.
    pub async fn unload(&self) -> Result<(), ApiError> {
        let mut engine = self.engine.lock().await;
        self.empty(&mut engine).await;
        Ok(())
    }

    /// Frees the memory unless an answer is under way.
    pub async fn unload_if_idle(&self) {
        if let Ok(mut engine) = self.engine.try_lock() {
            self.empty(&mut engine).await;
        }
    }

    async fn empty(&self, engine: &mut Option<Loaded>) {
        self.told().loaded = None;
        if let Some(loaded) = engine.take() {
            self.changed();
            // One that cannot be asked to end is killed when it is dropped.
            loaded.engine.shutdown().await.ok();
        }
    }

    fn changed(&self) {
        self.changes.announce(Topic::Playground, None);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Each change is a single assignment: a panic leaves nothing half done.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = told.holds.get_mut(&self.model) {
            *count -= 1;
            if *count == 0 {
                told.holds.remove(&self.model);
            }
        }
    }
}

impl Api {
    /// The model in memory.
    pub(crate) fn playground(&self) -> &Playground {
        &self.playground
    }

    /// Loads the model if it is not in memory, and answers piece by piece. Dropping the receiver cancels the answer.
    ///
    /// # Errors
    /// 400 for sampling settings out of range and for a model that cannot be loaded, 500 when the engine fails.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        model: ChatModel,
        question: Question,
    ) -> Result<mpsc::Receiver<Result<Piece, ApiError>>, ApiError> {
        if let Some((field, problem)) = question.params.problems().into_iter().next() {
            let problem = format!("{field} {problem}");
            return Err(ApiError::invalid(vec![types::FieldError::value("params", problem)]));
        }
        let hold = self.playground.hold(model.id());
        let mut engine = Arc::clone(&self.playground.engine).lock_owned().await;
        self.load_for_answer(&mut engine, model).await?;
        let (sender, pieces) = mpsc::channel(64);
        let api = Arc::clone(self);
        tokio::spawn(async move {
            api.playground.told().answering += 1;
            api.playground.changed();
            let (end, sound) = api.speak(&mut engine, question, &sender).await;
            if !sound {
                api.playground.empty(&mut engine).await;
            }
            drop((engine, hold));
            api.playground.told().answering -= 1;
            api.playground.changed();
            // Who reads the end may delete the model at once: nothing holds it any more. A reader that has gone needs none.
            sender.send(end).await.ok();
            api.unload_later();
        });
        Ok(pieces)
    }

    async fn load_for_answer(
        &self,
        engine: &mut OwnedMutexGuard<Option<Loaded>>,
        model: ChatModel,
    ) -> Result<(), ApiError> {
        if engine.as_ref().is_some_and(|loaded| loaded.model == model) {
            return Ok(());
        }
        // Its memory is needed for the next one.
        self.playground.empty(engine).await;
        let (started, loaded) = self.chat(&model).await?;
        self.playground.told().loaded = Some((model.id().to_owned(), loaded));
        **engine = Some(Loaded { model, engine: started });
        self.playground.changed();
        Ok(())
    }

    /// Passes an answer on up to its end, which is returned, and with it whether the engine is of further use.
    async fn speak(
        &self,
        engine: &mut OwnedMutexGuard<Option<Loaded>>,
        question: Question,
        sender: &mpsc::Sender<Result<Piece, ApiError>>,
    ) -> (Result<Piece, ApiError>, bool) {
        let Some(loaded) = engine.as_mut() else {
            return (Err(ApiError::internal("no model is in memory")), false);
        };
        let Question { prompt, params, without_adapter } = question;
        let cancel = self.playground.cancel.notified();
        tokio::pin!(cancel);
        let mut generation = match loaded.engine.generate(prompt, params, without_adapter).await {
            Ok(generation) => generation,
            Err(error) => return (Err(error), false),
        };
        let mut cancelled = false;
        loop {
            let piece = tokio::select! {
                piece = generation.next() => piece,
                () = sender.closed(), if !cancelled => {
                    cancelled = true;
                    if let Err(error) = generation.cancel().await { return (Err(error), false) }
                    continue;
                }
                () = &mut cancel, if !cancelled => {
                    cancelled = true;
                    if let Err(error) = generation.cancel().await { return (Err(error), false) }
                    continue;
                }
            };
            match piece {
                // A reader that has gone is noticed by `closed`; the engine's end is still to be read.
                Ok(piece @ Piece::Text { .. }) => drop(sender.send(Ok(piece)).await),
                Ok(end @ Piece::Done { .. }) => return (Ok(end), true),
                Err(error) => {
                    let sound = error.status_code == 400;
                    return (Err(error), sound);
                }
            }
        }
    }

    fn unload_later(self: &Arc<Self>) {
        let answer = self.playground.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let minutes = self.store.settings().map_or(0, |settings| settings.unload_after_minutes);
        if minutes == 0 {
            return;
        }
        let api = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60 * u64::from(minutes))).await;
            if let Some(api) = api.upgrade()
                && api.playground.answers.load(Ordering::Relaxed) == answer
            {
                api.playground.unload_if_idle().await;
            }
        });
    }
}

/// A seed for a caller that gives none, so that asking twice gives two answers.
pub(crate) fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64 >> 1)
}
