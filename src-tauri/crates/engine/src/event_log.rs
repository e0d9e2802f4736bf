//! What an engine tells: every event goes to the job's log first and to standard output then.

use std::{
    io::{self, Write},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use types::{JobFolder, TrainEvent, event_log};

/// How long a listener that reads nothing may hold up the end of an engine.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Appends events to a job's log, and says them.
pub struct EventLog {
    log: event_log::EventLog,
    listener: Option<Listener>,
}

/// Whoever started the engine. It may be stopped for a while and read nothing, or be gone: the run goes on without it.
struct Listener {
    lines: Sender<Vec<u8>>,
    ended: Receiver<()>,
}

impl EventLog {
    /// Opens the log of a job and goes on after its last whole line.
    ///
    /// # Errors
    /// The file cannot be read or written, or the system gives no thread.
    pub fn open(job: &JobFolder) -> io::Result<Self> {
        let log = event_log::EventLog::open(job)?;
        let (lines, given) = mpsc::channel::<Vec<u8>>();
        let (end, ended) = mpsc::channel();
        thread::Builder::new().name("events".into()).spawn(move || {
            for line in given {
                let mut out = io::stdout().lock();
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
            // Nobody may wait any more.
            end.send(()).ok();
        })?;
        Ok(Self { log, listener: Some(Listener { lines, ended }) })
    }

    /// The last event in the log, from an earlier engine too.
    pub fn last(&self) -> Option<&TrainEvent> {
        self.log.last()
    }

    /// The step of the last checkpoint in the log, from an earlier engine too.
    pub fn saved(&self) -> Option<u64> {
        self.log.saved()
    }

    /// Writes an event to the log and to standard output.
    ///
    /// # Errors
    /// The log cannot be written, a full disk for example.
    pub fn write(&mut self, event: TrainEvent) -> io::Result<()> {
        let text = self.log.append(event)?;
        if self.listener.as_ref().is_some_and(|listener| listener.lines.send(text).is_err()) {
            self.listener = None;
        }
        Ok(())
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        if let Some(Listener { lines, ended }) = self.listener.take() {
            drop(lines);
            // The log has everything that is not heard by then.
            ended.recv_timeout(LAST_WORDS).ok();
        }
    }
}
