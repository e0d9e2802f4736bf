//! Runs that run out of memory, or lose the card they are computed on: an engine that died of it is followed by one that takes less at
//! a time, or computes on the processor.

use std::{
    fs::TryLockError,
    io,
    process::ExitStatus,
    time::{Duration, Instant},
};

use types::{
    ApiError, EventLine, Fallback, Optim, TrainEvent, TrainingConfig, engine::exit, event_log::EventLog,
    files,
};

use crate::{job::gate, run::ActiveRun};

/// How far apart looks at the system's count are at least.
const LOOKS: Duration = Duration::from_millis(500);

/// How often the system has ended programs for want of memory, up to a moment that is not long ago.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    kills: Option<u64>,
    at: Instant,
}

impl Default for MemoryWatch {
    fn default() -> Self {
        Self { kills: hardware::out_of_memory_kills(), at: Instant::now() }
    }
}

impl MemoryWatch {
    /// The run is well at this moment: what was ended before was something else.
    pub(crate) fn look(&mut self) {
        if self.at.elapsed() >= LOOKS {
            *self = Self::default();
        }
    }

    /// What an engine that ended so lacked: by its own word, or because the system ended it then. `None` where it ended of something
    /// else.
    fn cause(&self, status: ExitStatus) -> Option<Cause> {
        match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(exit::OUT_OF_MEMORY) => return Some(Cause::Memory),
            Some(exit::CARD_LOST) => return Some(Cause::Card),
            _ => {}
        }
        #[cfg(unix)]
        if std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
            && hardware::out_of_memory_kills() > self.kills
        {
            return Some(Cause::Memory);
        }
        None
    }
}

/// What an engine lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Memory,
    /// The card it computed on.
    Card,
}

impl ActiveRun {
    /// Has another engine go on from the last checkpoint, with less at a time, where this one ran out of memory, and on the processor
    /// where its card is gone. Gives the event that says so; `None` where the engine ended of something else, or somebody else has
    /// taken up the run.
    ///
    /// # Errors
    /// The job's folder cannot be written, or no engine starts.
    pub(crate) async fn fall_back(&mut self, status: ExitStatus) -> Result<Option<EventLine>, ApiError> {
        let Some(cause) = self.memory.cause(status) else { return Ok(None) };
        let gate = gate(self.store()).await?;
        let path = self.job().path().display().to_string();
        let lacked = match cause {
            Cause::Memory => "ran out of memory",
            Cause::Card => "lost the card it was computed on",
        };
        let failed = |e: io::Error| ApiError::internal(format!("the run {lacked}. {path}: {e}"));
        let lock = files::open_lock(&self.job().lock()).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let config = &self.spec().config;
        let now = Fallback::read(self.job()).map_err(failed)?.unwrap_or_else(|| Fallback::none(config));
        let next = match cause {
            Cause::Memory => now.next(config, self.on_card()),
            // Once it is not on a card, it has none to lose.
            Cause::Card => (!now.on_processor).then(|| now.on_processor(true)),
        };
        if let Some(next) = &next {
            next.write(self.job()).map_err(failed)?;
        }
        let event = match (cause, next) {
            (Cause::Memory, Some(fallback)) => TrainEvent::OutOfMemory { fallback },
            (Cause::Memory, None) => TrainEvent::halted(self.job(), advice(config)),
            (Cause::Card, Some(_)) => TrainEvent::Warning {
                message: format!(
                    "The card does not answer any more ({}). The run goes on on the processor, from its last checkpoint; pause and \
                     resume it to try the card again.",
                    self.reason()
                ),
            },
            (Cause::Card, None) => return Ok(None),
        };
        // This process holds the run's lock, so the log is its to write.
        let text = EventLog::open(self.job()).and_then(|mut log| log.append(event)).map_err(failed)?;
        let line: EventLine = serde_json::from_slice(&text).map_err(ApiError::internal)?;
        drop(lock);
        self.memory = MemoryWatch::default();
        match next {
            Some(_) => self.launch_again(gate)?,
            None => self.end(),
        }
        Ok(Some(line))
    }
}

/// What is left for a person to change once a run computes single rows and each layer twice.
fn advice(config: &TrainingConfig) -> String {
    let mut changes = Vec::new();
    match config.max_seq_length {
        Some(length) => changes.push(format!("a max_seq_length below {length}")),
        None => changes.push("a max_seq_length below the longest row".to_owned()),
    }
    if config.quantisation().is_none() {
        changes.push("use_4bit".to_owned());
    }
    if !config.bf16 {
        changes.push("bf16".to_owned());
    }
    if config.optim != Optim::Adamw8bit {
        changes.push(format!("optim {}", Optim::Adamw8bit));
    }
    format!(
        "Memory ran out, even with single rows at a time and gradient checkpointing. Close other programs and resume the run, or start a \
         new one with a smaller model or with {}",
        changes.join(", ")
    )
}
