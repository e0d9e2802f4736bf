//! The queue: runs that wait for their turn, in order. It is a file beside the runs, so that a database that is lost
//! loses no place, and any process can change it.

use std::{fs, io, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::files;

use crate::{Store, StoreError};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The runs that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Queue {
    /// Whether no waiting run begins by itself: the person paused a run and may want the computer for other things.
    pub held: bool,
    /// The ids of the runs that wait, the next one first.
    pub runs: Vec<String>,
}

impl Queue {
    /// Where a run stands, the next one to begin at 1.
    pub fn place(&self, job_id: &str) -> Option<usize> {
        self.runs.iter().position(|id| id == job_id).map(|index| index + 1)
    }

    /// Puts a run at a place, the next one to begin at 1; one beyond the end goes to the end. A run that waits already
    /// is moved.
    pub fn put(&mut self, job_id: &str, place: usize) {
        self.remove(job_id);
        let index = place.saturating_sub(1).min(self.runs.len());
        self.runs.insert(index, job_id.to_owned());
    }

    /// Takes a run out; whether it waited.
    pub fn remove(&mut self, job_id: &str) -> bool {
        let before = self.runs.len();
        self.runs.retain(|id| id != job_id);
        // Nothing is left that could be held back.
        self.held &= !self.runs.is_empty();
        self.runs.len() < before
    }
}

impl Store {
    /// The queue now. A run that was deleted waits no more.
    ///
    /// # Errors
    /// When the file is there and cannot be read. One that holds no queue is an empty one.
    pub fn queue(&self) -> Result<Queue, StoreError> {
        let path = self.queue_file();
        let text = match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_BYTES => Vec::new(),
            Ok(_) => fs::read(&path).map_err(StoreError::io("read", &path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Queue::default()),
            Err(source) => return Err(StoreError::Io { doing: "read", path, source }),
        };
        let mut queue: Queue = serde_json::from_slice(&text).unwrap_or_default();
        let mut seen = std::collections::HashSet::new();
        queue.runs.retain(|id| {
            self.home().run(id).is_ok_and(|job| job.run_json().is_file()) && seen.insert(id.clone())
        });
        queue.held &= !queue.runs.is_empty();
        Ok(queue)
    }

    /// Changes the queue, with no other process changing it meanwhile.
    ///
    /// # Errors
    /// When it cannot be read or written; then it stays as it is.
    pub fn change_queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> Result<T, StoreError> {
        let path = self.home().runs().join("queue.lock");
        let lock = files::open_lock(&path).map_err(StoreError::io("make", &path))?;
        lock.lock().map_err(StoreError::io("lock", &path))?;
        let before = self.queue()?;
        let mut queue = before.clone();
        let told = change(&mut queue);
        if queue != before {
            let path = self.queue_file();
            files::write_json(&path, &queue).map_err(StoreError::io("write", &path))?;
        }
        Ok(told)
    }

    fn queue_file(&self) -> PathBuf {
        self.home().runs().join("queue.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(runs: &[&str]) -> Queue {
        Queue { held: false, runs: runs.iter().map(|&id| id.to_owned()).collect() }
    }

    #[test]
    fn runs_are_put_moved_and_taken_out() {
        let mut line = Queue::default();
        for (id, place, want) in [
            ("a", 1, ["a"].as_slice()),
            ("b", 9, &["a", "b"]),
            ("c", 1, &["c", "a", "b"]),
            ("c", 2, &["a", "c", "b"]),
            ("a", 3, &["c", "b", "a"]),
            ("a", 0, &["a", "c", "b"]),
        ] {
            line.put(id, place);
            assert_eq!(line, queue(want), "{id} at {place}");
        }
        assert_eq!((line.place("a"), line.place("b"), line.place("x")), (Some(1), Some(3), None));
        line.held = true;
        assert!(!line.remove("x") && line.remove("a") && line.held);
        assert!(line.remove("c") && line.remove("b"));
        assert!(!line.held, "an empty queue holds nothing back");
    }
}
