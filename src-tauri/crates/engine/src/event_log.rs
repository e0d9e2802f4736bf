//! What an engine tells: every event goes to the job's log first and to standard output then.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::PathBuf,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use types::{JobFolder, TrainEvent, event_log};

/// How long a listener that reads nothing may hold up the end of an engine.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Room that is set aside on the disk: enough for many events.
const RESERVE: usize = 64 << 10;

/// Appends events to a job's log, and says them.
pub struct EventLog {
    log: event_log::EventLog,
    listener: Option<Listener>,
    /// A file that takes the room that is set aside, so that a run can tell of a full disk. It is gone with this.
    reserve: PathBuf,
    full: bool,
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
        let reserve = job.reserve();
        // Without it a full disk is told by the exit code alone.
        File::create(&reserve)
            .and_then(|mut file| file.write_all(&[0; RESERVE]).and_then(|()| file.sync_data()))
            .ok();
        Ok(Self { log, listener: Some(Listener { lines, ended }), reserve, full: false })
    }

    /// The last event in the log, from an earlier engine too.
    pub fn last(&self) -> Option<&TrainEvent> {
        self.log.last()
    }

    /// The step of the last checkpoint in the log, from an earlier engine too.
    pub fn saved(&self) -> Option<u64> {
        self.log.saved()
    }

    /// Whether an event found the disk full. It is in the log; the run must end before there is no room for another.
    pub fn is_disk_full(&self) -> bool {
        self.full
    }

    /// Writes an event to the log and to standard output.
    ///
    /// # Errors
    /// The log cannot be written, not even with what was set aside.
    pub fn write(&mut self, event: TrainEvent) -> io::Result<()> {
        let text = match self.log.append(event.clone()) {
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                self.full = true;
                // It may have been given up already.
                fs::remove_file(&self.reserve).ok();
                self.log.append(event)?
            }
            text => text?,
        };
        if self.listener.as_ref().is_some_and(|listener| listener.lines.send(text).is_err()) {
            self.listener = None;
        }
        Ok(())
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        fs::remove_file(&self.reserve).ok();
        if let Some(Listener { lines, ended }) = self.listener.take() {
            drop(lines);
            // The log has everything that is not heard by then.
            ended.recv_timeout(LAST_WORDS).ok();
        }
    }
}
