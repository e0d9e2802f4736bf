//! JSONL: one object a line. A broken line is one bad row; blank lines are none.

use std::io::{self, BufRead};

use super::{BadRow, Format, Found, MAX_ROW_BYTES, parse_object};

/// Rows of a JSONL file.
pub(super) struct JsonLines<R> {
    reader: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead + Send> JsonLines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: 0, buffer: Vec::new() }
    }

    /// Reads one line into the buffer: whether there was one, and whether it was short enough to be kept.
    fn read_line(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        let (mut any, mut kept) = (false, true);
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok(any.then_some(kept));
            }
            any = true;
            let end = chunk.iter().position(|&b| b == b'\n');
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            if kept && self.buffer.len() + piece.len() <= MAX_ROW_BYTES {
                self.buffer.extend_from_slice(piece);
            } else {
                kept = false;
                self.buffer = Vec::new();
            }
            let used = end.map_or(chunk.len(), |e| e + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(kept));
            }
        }
    }
}

impl<R: BufRead + Send> Format for JsonLines<R> {
    fn next_row(&mut self) -> Option<io::Result<Found>> {
        loop {
            let kept = match self.read_line() {
                Ok(Some(kept)) => kept,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            self.line += 1;
            let line = Some(self.line);
            if !kept {
                let message = format!("the line is longer than {} MiB", MAX_ROW_BYTES >> 20);
                return Some(Ok(Found { line, content: Err(BadRow::new(message)) }));
            }
            let text = self.buffer.trim_ascii();
            if !text.is_empty() {
                return Some(Ok(Found { line, content: parse_object(text) }));
            }
        }
    }
}
