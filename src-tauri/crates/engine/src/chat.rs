//! A chat engine: holds one loaded model, answers requests from standard input, streams text to standard output.
//!
//! Requests are carried out one after the other on the main thread. A second thread reads them as they come, so that
//! a cancel or the end of the input reaches a generation that is under way.

use std::{
    collections::HashSet,
    io::{self, BufRead, Write},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use candle_core::Device;
use data::Tokenizer;
use infer::ChatSession;
use models::{CausalLm, LoadOptions, Pass};
use types::{
    GenerateParams, GenerateStats, Manifest, ModelFolder,
    engine::{EngineCommand, EngineReply, EngineReplyLine, EngineRequest, PromptInput},
};

use crate::{EngineError, complain, job};

/// The longest request line: a conversation that fills any model's context is far shorter.
const MAX_LINE: usize = 64 << 20;

/// Serves requests until the input ends or `shutdown` comes.
pub fn main() -> ExitCode {
    let (send, requests) = mpsc::channel();
    let cancelled = Cancelled::default();
    let noted = cancelled.clone();
    thread::spawn(move || read_requests(&send, &noted));
    let mut loaded: Option<Loaded> = None;
    for incoming in requests {
        let (id, outcome) = match incoming {
            Incoming::Malformed(message) => (0, Err(message)),
            Incoming::Request(EngineRequest { id, command }) => match command {
                EngineCommand::Shutdown => {
                    return reply(id, EngineReply::Ok).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
                }
                command => (id, serve(id, command, &mut loaded, &cancelled).map_err(|e| e.to_string())),
            },
        };
        cancelled.forget(id);
        let answer = outcome.unwrap_or_else(|message| EngineReply::Error { message });
        if reply(id, answer).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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

struct Loaded {
    model: Box<dyn CausalLm>,
    tokenizer: Tokenizer,
}

fn serve(
    id: u64,
    command: EngineCommand,
    loaded: &mut Option<Loaded>,
    cancelled: &Cancelled,
) -> Result<EngineReply, EngineError> {
    match command {
        EngineCommand::Load { base_dir, adapter_dir } => {
            // The old model goes first: two at once may not fit.
            *loaded = None;
            let fresh = load(&base_dir, adapter_dir.as_deref())?;
            let info = fresh.model.info();
            let adapter: usize = fresh.model.trainable().iter().map(|(_, var)| var.elem_count()).sum();
            let answer = EngineReply::Loaded {
                architecture: info.architecture.clone(),
                parameters: info.parameters + adapter as u64,
                context_length: info.context_length,
                device: job::DEVICE_NAME.to_owned(),
            };
            *loaded = Some(fresh);
            Ok(answer)
        }
        EngineCommand::Generate { input, params, without_adapter } => {
            let loaded = loaded.as_ref().ok_or(EngineError::NoModel)?;
            let pass = if without_adapter { Pass::BASE } else { Pass::EVAL };
            let (text, stats) = generate(id, loaded, &input, &params, pass, cancelled)?;
            Ok(EngineReply::Done { text, stats })
        }
        EngineCommand::Unload => {
            *loaded = None;
            Ok(EngineReply::Ok)
        }
        EngineCommand::Cancel { .. } | EngineCommand::Shutdown => Ok(EngineReply::Ok),
    }
}

fn load(base_dir: &Path, adapter_dir: Option<&Path>) -> Result<Loaded, EngineError> {
    // A model that was trained in bf16 for want of memory answers in bf16 too.
    let bf16 = adapter_dir.is_some_and(|folder| {
        std::fs::read(ModelFolder::new(folder).manifest())
            .ok()
            .and_then(|text| serde_json::from_slice::<Manifest>(&text).ok())
            .is_some_and(|manifest| manifest.config.bf16)
    });
    let mut model = models::load(base_dir, &LoadOptions { bf16, device: Device::Cpu })?;
    if let Some(folder) = adapter_dir {
        model.load_adapter(folder)?;
    }
    let tokenizer = Tokenizer::load(base_dir)?;
    job::check_vocab(&tokenizer, model.as_ref())?;
    Ok(Loaded { model, tokenizer })
}

fn generate(
    id: u64,
    loaded: &Loaded,
    input: &PromptInput,
    params: &GenerateParams,
    pass: Pass,
    cancelled: &Cancelled,
) -> Result<(String, GenerateStats), EngineError> {
    if let Some((field, message)) = params.problems().into_iter().next() {
        return Err(EngineError::Params { field, message });
    }
    let mut session = ChatSession::new(loaded.model.as_ref(), &loaded.tokenizer);
    let mut stream = |text: &str| {
        let told = reply(id, EngineReply::Token { text: text.to_owned() });
        told.is_ok() && !cancelled.contains(id)
    };
    Ok(session.generate(input, params, pass, &mut stream)?)
}

fn reply(id: u64, reply: EngineReply) -> io::Result<()> {
    let mut text = serde_json::to_vec(&EngineReplyLine { id, reply })?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).inspect_err(|e| complain(format!("standard output: {e}")))
}
