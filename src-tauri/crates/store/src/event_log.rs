//! Reading a run's event log while an engine may be writing it.
//!
//! A line counts once it is whole. An engine that takes up a run cuts off what its predecessor left half written, and a
//! power cut may take whole lines too: a log that has become shorter is read again from its start.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde::Deserialize;
use types::EventLine;

use crate::StoreError;

/// The longest line that is read.
const MAX_LINE: u64 = 1 << 20;

/// A batch ends after this many lines, or with the line that reaches this many bytes.
const BATCH_LINES: usize = 512;
const BATCH_BYTES: u64 = 4 << 20;

/// What is read of a file at one go.
const READ_BYTES: usize = 64 << 10;

/// Follows a run's event log: each batch holds the lines that have become whole since the one before.
///
/// Nothing is kept open between two batches, so that the run's folder can be deleted meanwhile.
#[derive(Debug)]
pub struct EventTail {
    reader: LogReader,
    /// Lines up to this number are not given out.
    after: Option<u64>,
}

impl EventTail {
    /// Begins at the byte `offset`, the start of a line, and gives out lines whose number is above `after`.
    pub(crate) fn new(reader: LogReader, after: Option<u64>) -> Self {
        Self { reader, after }
    }

    /// The next lines, some hundred at most; empty where there is none at present. A log that does not exist yet or any
    /// more has none.
    ///
    /// # Errors
    /// When the log is there and cannot be read.
    pub fn next_batch(&mut self) -> Result<Vec<EventLine>, StoreError> {
        loop {
            let batch = self.reader.read()?;
            let last = batch.lines.last().map(|line| line.seq);
            let new: Vec<_> = batch.lines.into_iter().filter(|line| Some(line.seq) > self.after).collect();
            // At its end, the log tells how far it goes, which is less than before where it was cut.
            self.after = match (batch.at_end, last) {
                (false, _) => self.after.max(last),
                (true, None) if self.reader.offset > 0 => self.after,
                (true, _) => last,
            };
            if batch.at_end || !new.is_empty() {
                return Ok(new);
            }
        }
    }
}

/// A place in an event log: the end of the last whole line that was read.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    offset: u64,
}

/// What an event of any version has.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it is there matters")]
struct Head {
    seq: u64,
    event: String,
}

/// Lines that were read at one go.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In the order of the log.
    pub lines: Vec<EventLine>,
    /// Where the first of them begins, in bytes.
    pub start: u64,
    /// Whether the log was found cut, so that this batch begins at its start again.
    pub restarted: bool,
    /// Whether no whole line follows at present.
    pub at_end: bool,
}

impl LogReader {
    /// Begins at the byte `offset`, the start of a line.
    pub fn new(path: PathBuf, offset: u64) -> Self {
        Self { path, offset }
    }

    /// Reads on from the place reached. A line that is no event of any version ends the log, as it does for the engine.
    pub fn read(&mut self) -> Result<Batch, StoreError> {
        let length = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(self.failed(source)),
        };
        let restarted = length < self.offset;
        if restarted {
            self.offset = 0;
        }
        let mut batch = Batch { lines: Vec::new(), start: self.offset, restarted, at_end: true };
        if length > self.offset {
            self.read_into(&mut batch).map_err(|source| self.failed(source))?;
        }
        Ok(batch)
    }

    fn read_into(&mut self, batch: &mut Batch) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        let mut line = Vec::new();
        while batch.lines.len() < BATCH_LINES && self.offset - batch.start < BATCH_BYTES {
            line.clear();
            let length = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            match EventLine::parse(&line) {
                Ok(event) => batch.lines.push(event),
                // What another version told is passed over.
                Err(_) if serde_json::from_slice::<Head>(&line).is_ok() => {}
                Err(_) => return Ok(()),
            }
            self.offset += length as u64;
        }
        batch.at_end = false;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io { doing: "read", path: self.path.clone(), source }
    }
}
