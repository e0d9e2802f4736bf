//! CSV and TSV with a header line; quoted fields may hold line ends. Cells of list-valued columns are read as JSON.

use std::{
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use csv::ByteRecord;
use serde_json::{Map, Value};

use super::{BadRow, Format, Found, MAX_COLUMNS, MAX_ROW_BYTES};
use crate::error::{DataError, FileProblem};

/// Columns whose cells may be JSON, since CSV itself has no lists.
const LIST_COLUMNS: &[&str] = &["messages", "conversations", "answers", "prompt", "chosen", "rejected"];

/// Rows of a CSV file.
pub(super) struct Csv<R> {
    reader: csv::Reader<Bounded<R>>,
    since_row: Arc<AtomicUsize>,
    names: Vec<String>,
    record: ByteRecord,
}

/// Why a CSV file cannot be opened.
pub(super) enum OpenError {
    Io(io::Error),
    File(FileProblem),
}

impl OpenError {
    pub(super) fn at(self, path: &Path) -> DataError {
        match self {
            Self::Io(source) => DataError::read(path, source),
            Self::File(problem) => DataError::file(path, problem),
        }
    }
}

/// The character between fields: a tab in .tsv; in .csv what the first line has most of (spreadsheets in many
/// countries write `;`).
pub(super) fn delimiter(path: &Path, head: &[u8]) -> u8 {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv")) {
        return b'\t';
    }
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let count = |c: u8| line.iter().filter(|&&b| b == c).count();
    let mut best = b',';
    for candidate in [b';', b'\t'] {
        if count(candidate) > count(best) {
            best = candidate;
        }
    }
    best
}

impl<R: Read + Send> Csv<R> {
    pub(super) fn open(file: R, delimiter: u8) -> Result<Self, OpenError> {
        let since_row = Arc::new(AtomicUsize::new(0));
        let bounded = Bounded { inner: file, since_row: since_row.clone() };
        let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(bounded);
        let header = reader.byte_headers().map_err(|e| OpenError::Io(io_error(e)))?;
        if header.len() > MAX_COLUMNS {
            return Err(OpenError::File(FileProblem::TooManyColumns(header.len())));
        }
        let mut names: Vec<String> = Vec::new();
        for (i, cell) in header.iter().enumerate() {
            let bad = |what| OpenError::File(FileProblem::Header { column: i + 1, what });
            let name = std::str::from_utf8(cell).map_err(|_| bad("a name that is not UTF-8"))?.trim();
            if names.iter().any(|n| n == name) {
                return Err(bad("the name of another column"));
            }
            if name.is_empty() && i > 0 {
                return Err(bad("no name"));
            }
            names.push(name.to_owned());
        }
        Ok(Self { reader, since_row, names, record: ByteRecord::new() })
    }

    fn values(&self) -> Result<Map<String, Value>, BadRow> {
        if self.record.len() != self.names.len() {
            let (has, header) = (self.record.len(), self.names.len());
            return Err(BadRow::new(format!(
                "{has} fields, but the header has {header}; put fields that hold the separator in double quotes"
            )));
        }
        let mut values = Map::new();
        for (name, cell) in self.names.iter().zip(self.record.iter()) {
            let text = std::str::from_utf8(cell).map_err(|_| BadRow {
                line: None,
                field: Some(name.clone()),
                message: format!("field \"{name}\" is not UTF-8"),
            })?;
            values.insert(name.clone(), cell_value(name, text));
        }
        Ok(values)
    }
}

fn cell_value(name: &str, text: &str) -> Value {
    let start = text.trim_start();
    if LIST_COLUMNS.contains(&name)
        && start.starts_with(['[', '{'])
        && let Ok(value) = serde_json::from_str(text)
    {
        return value;
    }
    Value::String(text.to_owned())
}

impl<R: Read + Send> Format for Csv<R> {
    fn next_row(&mut self) -> Option<io::Result<Found>> {
        self.since_row.store(0, Ordering::Relaxed);
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => {
                let line = self.record.position().map(csv::Position::line);
                Some(Ok(Found { line, content: self.values() }))
            }
            Err(error) => Some(Err(io_error(error))),
        }
    }
}

fn io_error(error: csv::Error) -> io::Error {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => io::Error::other(text),
    }
}

/// Stops a record that never ends, such as one whose quote is never closed, before it fills the memory.
struct Bounded<R> {
    inner: R,
    since_row: Arc<AtomicUsize>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if self.since_row.fetch_add(n, Ordering::Relaxed) > MAX_ROW_BYTES {
            let limit = MAX_ROW_BYTES >> 20;
            return Err(io::Error::other(format!(
                "a row is longer than {limit} MiB: is a double quote not closed?"
            )));
        }
        Ok(n)
    }
}
