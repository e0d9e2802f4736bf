//! Dataset files as a stream of rows, whatever they are written in. No file is ever in memory whole.

mod csv;
mod json;
mod lines;
mod parquet;

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Map, Value};
use types::dataset::{FileFormat, RowError};

use crate::error::{DataError, FileProblem};

/// A longer row is refused: no model reads it, and a file without line ends must not fill the memory.
pub const MAX_ROW_BYTES: usize = 64 << 20;
/// A wider table is refused.
pub const MAX_COLUMNS: usize = 1000;
/// How much of a file is looked at to find out its format.
const SNIFFED_BYTES: usize = 64 << 10;

/// One row as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Line it begins on, from 1; absent where a format has no lines (Parquet).
    pub line: Option<u64>,
    /// Row among the rows, from 1.
    pub row: u64,
    /// Its fields in the order of the file.
    pub values: Map<String, Value>,
}

impl Row {
    /// An error about this row.
    pub(crate) fn error(&self, field: Option<&str>, message: impl Into<String>) -> RowError {
        let (line, row) = (self.line, self.row);
        RowError { line, row, field: field.map(str::to_owned), message: message.into() }
    }
}

/// What a format's reader finds next, before it gets its row number.
struct Found {
    line: Option<u64>,
    content: Result<Map<String, Value>, BadRow>,
}

/// Why a row is none.
struct BadRow {
    /// Line of the fault, where it is another than the row's first.
    line: Option<u64>,
    field: Option<String>,
    message: String,
}

impl BadRow {
    fn new(message: impl Into<String>) -> Self {
        Self { line: None, field: None, message: message.into() }
    }
}

/// One format: gives row after row; an `io::Error` ends the file.
trait Format: Send {
    fn next_row(&mut self) -> Option<io::Result<Found>>;
}

/// The rows of a file, one after the other; a bad row is an error and the next one follows.
pub struct Rows {
    format: FileFormat,
    bytes: u64,
    consumed: Arc<AtomicU64>,
    row: u64,
    reader: Box<dyn Format>,
    failure: Option<io::Error>,
    ended: bool,
}

impl Rows {
    /// How the file is written.
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes read so far; stays 0 for Parquet, which is not read from front to back.
    pub fn bytes_read(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// What ended the reading before the end of the file: the disk, not a row.
    ///
    /// # Errors
    /// The system's error, once.
    pub fn finish(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl Iterator for Rows {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = match self.reader.next_row() {
            Some(Ok(found)) => found,
            end => {
                self.ended = true;
                self.failure = end.and_then(Result::err);
                return None;
            }
        };
        self.row += 1;
        let row = self.row;
        Some(match found.content {
            Ok(values) if values.len() > MAX_COLUMNS => {
                let message = format!("{} fields, at most {MAX_COLUMNS} are read", values.len());
                Err(RowError { line: found.line, row, field: None, message })
            }
            Ok(values) => Ok(Row { line: found.line, row, values }),
            Err(bad) => {
                Err(RowError { line: bad.line.or(found.line), row, field: bad.field, message: bad.message })
            }
        })
    }
}

/// Opens a dataset; the format is found by the extension, then by the content.
///
/// # Errors
/// A file that is missing, unreadable, empty, a folder, a pipe, a device, compressed, not UTF-8, or in no known format.
pub fn open(path: &Path) -> Result<Rows, DataError> {
    let fail = |problem| DataError::file(path, problem);
    let read = |source| DataError::read(path, source);
    let metadata = std::fs::metadata(path).map_err(read)?;
    if metadata.is_dir() {
        return Err(fail(FileProblem::Folder));
    }
    // Before it is opened: opening a pipe waits for a writer that may never come, and a device may have no end.
    if !metadata.is_file() {
        return Err(fail(FileProblem::NoRegularFile));
    }
    let mut file = File::open(path).map_err(read)?;
    let mut head = Vec::new();
    (&mut file).take(SNIFFED_BYTES as u64).read_to_end(&mut head).map_err(read)?;
    let format = find_format(path, &head).map_err(fail)?;
    let start = if head.starts_with(UTF8_BOM) { UTF8_BOM.len() } else { 0 };
    file.seek(SeekFrom::Start(start as u64)).map_err(read)?;

    let consumed = Arc::new(AtomicU64::new(0));
    let counted = || Counted { file: file.try_clone(), consumed: consumed.clone() };
    let text = head.get(start..).unwrap_or_default();
    let reader: Box<dyn Format> = match format {
        FileFormat::Jsonl => Box::new(lines::JsonLines::new(BufReader::with_capacity(1 << 16, counted()))),
        FileFormat::Json => Box::new(json::JsonArray::new(BufReader::with_capacity(1 << 16, counted()))),
        FileFormat::Csv => {
            Box::new(csv::Csv::open(counted(), csv::delimiter(path, text)).map_err(|e| e.at(path))?)
        }
        FileFormat::Parquet => Box::new(parquet::Parquet::open(file).map_err(fail)?),
    };
    Ok(Rows { format, bytes: metadata.len(), consumed, row: 0, reader, failure: None, ended: false })
}

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// First bytes of files that are no text, and what they are.
const COMPRESSED: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
];

fn find_format(path: &Path, head: &[u8]) -> Result<FileFormat, FileProblem> {
    if head.starts_with(b"PAR1") {
        return Ok(FileFormat::Parquet);
    }
    if let Some((_, name)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(FileProblem::Compressed(name));
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err(FileProblem::Encoding("UTF-16"));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    if matches!(extension.as_str(), "parquet" | "pq") {
        let empty = head.is_empty();
        return Err(if empty {
            FileProblem::Empty
        } else {
            FileProblem::Damaged("it is not Parquet".into())
        });
    }
    let text = head.strip_prefix(UTF8_BOM).unwrap_or(head);
    if text.iter().take(4).filter(|&&b| b == 0).count() >= 1 {
        return Err(FileProblem::Encoding("UTF-16 or UTF-32, or is no text"));
    }
    let text = text.trim_ascii_start();
    match (extension.as_str(), text.first()) {
        (_, None) if head.len() < SNIFFED_BYTES => Err(FileProblem::Empty),
        ("csv" | "tsv", _) => Ok(FileFormat::Csv),
        (_, Some(b'[')) => Ok(FileFormat::Json),
        ("json", Some(b'{')) if is_first_line_of_an_object(text) => Err(FileProblem::SingleObject),
        ("jsonl" | "ndjson" | "json", _) | (_, Some(b'{')) => Ok(FileFormat::Jsonl),
        _ => Err(FileProblem::UnknownFormat),
    }
}

/// An object that is not finished at the end of its line is one over several lines.
fn is_first_line_of_an_object(text: &[u8]) -> bool {
    let Some(end) = text.iter().position(|&b| b == b'\n') else { return false };
    let line = text.get(..end).unwrap_or_default();
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err_and(|e| e.is_eof())
}

/// Parses one row of JSON text; the depth of nesting is limited by serde_json (128).
fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, BadRow> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(BadRow::new(format!("not UTF-8 at byte {} of the row", error.valid_up_to() + 1)));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(other) => Err(BadRow::new(format!("a row must be a JSON object {{…}}, not {}", kind_of(&other)))),
        Err(error) => {
            let text = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let reason = text.strip_suffix(&place).unwrap_or(&text);
            // serde counts a line end to the line it begins.
            let (line, column) = match (error.line(), error.column()) {
                (line, 0) => (line.saturating_sub(1), "the end of the line".to_owned()),
                (line, column) => (line, format!("column {column}")),
            };
            let message = format!("broken JSON at {column}: {reason}");
            Err(BadRow { line: (line > 1).then_some(line as u64), field: None, message })
        }
    }
}

/// What a value is, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Counts what is read, for a progress bar.
struct Counted {
    file: io::Result<File>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file.as_mut().map_err(|e| io::Error::from(e.kind()))?;
        let n = file.read(buffer)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
