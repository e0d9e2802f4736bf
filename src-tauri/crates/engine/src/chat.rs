//! A chat engine: holds one loaded model, answers requests from standard input, streams text to standard output.
//!
//! Requests are carried out one after the other on the main thread. A second thread reads them as they come, so that
//! a cancel or the end of the input reaches a generation that is under way.

use std::{
    collections::HashSet,
    io::{self, BufRead},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use data::Tokenizer;
use infer::{ChatSession, Listener};
use models::{AnyModel, Pass};
use types::{
    Manifest, ModelFolder, Provider,
    engine::{EngineCommand, EngineReply, EngineReplyLine, EngineRequest, LayerSplit, exit},
};

use crate::{
    EngineError, complain,
    device::{self, Purpose, Wanted},
    load, tell,
};

/// The longest request line: a conversation that fills any model's context is far shorter.
const MAX_LINE: usize = 64 << 20;

/// Serves requests until the input ends or `shutdown` comes.
pub fn main() -> u8 {
    let (send, requests) = mpsc::channel();
    let cancelled = Cancelled::default();
    let noted = cancelled.clone();
    thread::spawn(move || read_requests(&send, &noted));
    match serve(&requests, &cancelled) {
        Ok(()) => exit::SUCCESS,
        Err(error) => {
            complain(format!("standard output: {error}"));
            exit::FAILURE
        }
    }
}

/// Ids of generations that are to end. All of them, once nobody listens any more.
#[derive(Clone, Default)]
struct Cancelled(Arc<Mutex<(HashSet<u64>, bool)>>);

impl Cancelled {
    fn add(&self, id: u64) {
        self.lock().0.insert(id);
    }

    fn add_all(&self) {
        self.lock().1 = true;
    }

    fn contains(&self, id: u64) -> bool {
        let state = self.lock();
        state.1 || state.0.contains(&id)
    }

    fn forget(&self, id: u64) {
        self.lock().0.remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (HashSet<u64>, bool)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

enum Incoming {
    Request(EngineRequest),
    Malformed(String),
}

fn read_requests(requests: &mpsc::Sender<Incoming>, cancelled: &Cancelled) {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut input, MAX_LINE as u64).read_until(b'\n', &mut line);
        if !read.is_ok_and(|length| length > 0) {
            break;
        }
        let incoming = match serde_json::from_slice(&line) {
            Ok(EngineRequest { command: EngineCommand::Cancel { target }, id }) => {
                cancelled.add(target);
                Incoming::Request(EngineRequest { id, command: EngineCommand::Cancel { target } })
            }
            Ok(request) => Incoming::Request(request),
            Err(_) if line.trim_ascii().is_empty() => continue,
            Err(e) => Incoming::Malformed(format!("not a request: {e}")),
        };
        if requests.send(incoming).is_err() {
            return;
        }
    }
    cancelled.add_all();
}

/// A model in memory.
pub(crate) struct Loaded {
    pub model: AnyModel,
    pub tokenizer: Tokenizer,
}

/// Answers requests while no model is loaded; a loaded one takes over until something else is asked for.
fn serve(requests: &mpsc::Receiver<Incoming>, cancelled: &Cancelled) -> io::Result<()> {
    let mut left = None;
    while let Some(incoming) = left.take().or_else(|| requests.recv().ok()) {
        match incoming {
            Incoming::Malformed(message) => reply(0, EngineReply::Error { message })?,
            Incoming::Request(EngineRequest { id, command }) => match command {
                EngineCommand::Load { base_dir, adapter_dir } => {
                    match load_model(&base_dir, adapter_dir.as_deref()) {
                        Ok(loaded) => {
                            reply(id, loaded.describe())?;
                            left = converse(&loaded, requests, cancelled)?;
                        }
                        Err(error) => fail(id, &error)?,
                    }
                }
                EngineCommand::Generate { .. } => fail(id, &EngineError::NoModel)?,
                EngineCommand::Unload | EngineCommand::Cancel { .. } => reply(id, EngineReply::Ok)?,
                EngineCommand::Shutdown => return reply(id, EngineReply::Ok),
            },
        }
    }
    Ok(())
}

/// Answers with one model, in one session, so that a conversation's earlier turns are not computed again. Gives back
/// the first request that is not about this model; the model is gone before that one is carried out, since two may not
/// fit into memory.
fn converse(
    loaded: &Loaded,
    requests: &mpsc::Receiver<Incoming>,
    cancelled: &Cancelled,
) -> io::Result<Option<Incoming>> {
    let mut session = ChatSession::new(&*loaded.model, &loaded.tokenizer);
    while let Ok(incoming) = requests.recv() {
        let (id, input, params, without_adapter) = match incoming {
            Incoming::Request(EngineRequest {
                id,
                command: EngineCommand::Generate { input, params, without_adapter },
            }) => (id, input, params, without_adapter),
            Incoming::Request(EngineRequest { id, command: EngineCommand::Cancel { .. } }) => {
                reply(id, EngineReply::Ok)?;
                continue;
            }
            other => return Ok(Some(other)),
        };
        let pass = if without_adapter { Pass::BASE } else { Pass::EVAL };
        let mut stream = Stream { id, cancelled, open: true };
        match session.generate(&input, &params, pass, &mut stream) {
            Ok((text, stats)) => reply(id, EngineReply::Done { text, stats })?,
            Err(error) => fail(id, &error.into())?,
        }
        cancelled.forget(id);
    }
    Ok(None)
}

/// Sends an answer as it comes, until it is cancelled or nobody reads it.
struct Stream<'a> {
    id: u64,
    cancelled: &'a Cancelled,
    open: bool,
}

impl Listener for Stream<'_> {
    fn text(&mut self, piece: &str) {
        self.open &= reply(self.id, EngineReply::Token { text: piece.to_owned() }).is_ok();
    }

    fn listens(&self) -> bool {
        self.open && !self.cancelled.contains(self.id)
    }
}

impl Loaded {
    fn describe(&self) -> EngineReply {
        let info = self.model.info();
        let adapter: usize = self.model.trainable().iter().map(|(_, var)| var.elem_count()).sum();
        EngineReply::Loaded {
            architecture: info.architecture.clone(),
            parameters: info.parameters + adapter as u64,
            context_length: info.context_length,
            device: device::name(self.model.device()).to_owned(),
            split: self.model.split().map(|(on_card, total)| LayerSplit { on_card, total }),
        }
    }
}

/// Loads a base model, with or without an adapter.
///
/// # Errors
/// Their files cannot be used.
pub(crate) fn load_model(base_dir: &Path, adapter_dir: Option<&Path>) -> Result<Loaded, EngineError> {
    load_kept(base_dir, adapter_dir, true)
}

/// The same on a base in full precision even where the adapter was trained on a quantised one: what an export merges it into.
///
/// # Errors
/// As [`load_model`].
pub(crate) fn load_unquantised(base_dir: &Path, adapter_dir: &Path) -> Result<Loaded, EngineError> {
    load_kept(base_dir, Some(adapter_dir), false)
}

fn load_kept(base_dir: &Path, adapter_dir: Option<&Path>, quantised: bool) -> Result<Loaded, EngineError> {
    // A model that was trained in bf16 or on a quantised base for want of memory answers so too: its adapter has learned to make up
    // for what that base lacks.
    let config = adapter_dir.and_then(|folder| {
        let text = std::fs::read(ModelFolder::new(folder).manifest()).ok()?;
        serde_json::from_slice::<Manifest>(&text).ok().map(|manifest| manifest.config)
    });
    let bf16 = config.as_ref().is_some_and(|config| config.bf16);
    let fp16 = config.as_ref().is_some_and(|config| config.fp16);
    let kept = config.filter(|_| quantised).and_then(|config| config.quantisation());
    let quantise = kept.map(load::quantise);
    let adapter =
        adapter_dir.and_then(|folder| std::fs::metadata(folder.join(models::adapter::WEIGHTS)).ok());
    let purpose = Purpose::Answer { beside: adapter.map_or(0, |file| file.len()) };
    let provider = Provider::Unsloth;
    let wanted = Wanted { folder: base_dir, bf16, fp16, provider, quantise, purpose };
    let mut model = wanted.load(&mut |why| complain(why))?;
    if let Some(folder) = adapter_dir {
        model.load_adapter(folder)?;
    }
    let tokenizer = Tokenizer::load(base_dir)?;
    load::check_vocab(&tokenizer, &*model)?;
    Ok(Loaded { model, tokenizer })
}

fn fail(id: u64, error: &EngineError) -> io::Result<()> {
    reply(id, EngineReply::Error { message: error.to_string() })
}

fn reply(id: u64, reply: EngineReply) -> io::Result<()> {
    tell(&EngineReplyLine { id, reply })
}
