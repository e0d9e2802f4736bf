//! Checkpoints are written by a thread of their own, so that no step waits for the disk.

use std::{
    panic::resume_unwind,
    path::PathBuf,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use super::Snapshot;
use crate::TrainError;

/// A checkpoint that is complete on disk.
pub(crate) struct Saved {
    /// After this step.
    pub step: u64,
    pub path: PathBuf,
}

/// Writes one checkpoint at a time: no more than one copy of a run's state is in memory.
#[derive(Default)]
pub(crate) struct Saver {
    under_way: Option<UnderWay>,
}

struct UnderWay {
    step: u64,
    written: JoinHandle<Result<PathBuf, TrainError>>,
}

impl Saver {
    /// The step of the checkpoint that is being written.
    pub fn step(&self) -> Option<u64> {
        self.under_way.as_ref().map(|under_way| under_way.step)
    }

    /// Begins to write. What was under way must have been waited for.
    ///
    /// # Errors
    /// The system gives no thread, and the checkpoint cannot be written without one either.
    pub fn start(&mut self, snapshot: Snapshot) -> Result<Option<Saved>, TrainError> {
        let step = snapshot.step();
        let snapshot = Arc::new(snapshot);
        let given = Arc::clone(&snapshot);
        match Builder::new().name("checkpoint".into()).spawn(move || given.write()) {
            Ok(written) => {
                self.under_way = Some(UnderWay { step, written });
                Ok(None)
            }
            Err(_) => snapshot.write().map(|path| Some(Saved { step, path })),
        }
    }

    /// The checkpoint that was under way, once it is complete; `None` where there is none, or none yet.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finished(&mut self) -> Result<Option<Saved>, TrainError> {
        match &self.under_way {
            Some(under_way) if under_way.written.is_finished() => self.wait(),
            _ => Ok(None),
        }
    }

    /// The same, waiting for it.
    ///
    /// # Errors
    /// It could not be written.
    pub fn wait(&mut self) -> Result<Option<Saved>, TrainError> {
        let Some(UnderWay { step, written }) = self.under_way.take() else { return Ok(None) };
        let path = written.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(Some(Saved { step, path }))
    }
}

impl Drop for Saver {
    /// Nothing is written once the run has ended, however it did.
    fn drop(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            under_way.written.join().ok();
        }
    }
}
