//! What a training engine is told to do while it works: by the job's control file, and by signals.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use types::{JobFolder, engine::Control};

use crate::{EngineError, complain};

/// The orders to the engine of one job.
pub struct Orders<'a> {
    job: &'a JobFolder,
    newest: Cell<Option<Control>>,
    /// Set by a signal, and by whatever makes it impossible to go on.
    interrupted: Arc<AtomicBool>,
}

impl<'a> Orders<'a> {
    /// Listens from now on. An order that lies in the folder already was meant for an engine before this one and is
    /// removed.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn listen(job: &'a JobFolder) -> Result<Self, EngineError> {
        Control::withdraw(job).map_err(EngineError::file(job.control()))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        if let Err(error) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
            complain(format!("signals are not handled: {error}"));
        }
        Ok(Self { job, newest: Cell::new(None), interrupted })
    }

    /// The order in force: a pause after Ctrl-C or a termination signal, or else the newest that was given.
    pub fn newest(&self) -> Option<Control> {
        match Control::take(self.job) {
            Ok(None) => {}
            Ok(order) => self.newest.set(order),
            // An order that cannot be read ends no run.
            Err(error) => complain(EngineError::file(self.job.control())(error)),
        }
        if self.interrupted.load(Ordering::Relaxed) { Some(Control::Pause) } else { self.newest.get() }
    }

    /// Finishes the run early, unless it is told something else.
    pub fn finish(&self) {
        self.newest.set(Some(Control::Finish));
    }

    /// Pauses the run whatever else is ordered.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }
}
