//! What an engine tells: every event goes to the job's log first and to standard output then.

use std::io::{self, Write};

use types::{JobFolder, TrainEvent, event_log};

/// Appends events to a job's log, and says them.
pub struct EventLog {
    log: event_log::EventLog,
    /// Standard output is gone once the program that started the engine is; the run goes on without it.
    listener: bool,
}

impl EventLog {
    /// Opens the log of a job and goes on after its last whole line.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(job: &JobFolder) -> io::Result<Self> {
        Ok(Self { log: event_log::EventLog::open(job)?, listener: true })
    }

    /// The last event in the log, from an earlier engine too.
    pub fn last(&self) -> Option<&TrainEvent> {
        self.log.last()
    }

    /// Writes an event to the log and to standard output.
    ///
    /// # Errors
    /// The log cannot be written, a full disk for example.
    pub fn write(&mut self, event: TrainEvent) -> io::Result<()> {
        let text = self.log.append(event)?;
        if self.listener {
            let mut out = io::stdout().lock();
            self.listener = out.write_all(&text).and_then(|()| out.flush()).is_ok();
        }
        Ok(())
    }
}
