//! A JSON array of objects, element by element, each with its line. A broken element is one bad row.
//!
//! The file is split at the brackets, so that only one element is in memory. Two things end an element that never
//! closes, both impossible in JSON: a line end inside a string ends the string, and a `{` where a key must stand
//! begins the next element.

use std::io::{self, BufRead};

use super::{BadRow, Format, Found, MAX_ROW_BYTES, parse_object};

/// Brackets within brackets; serde_json refuses fewer, this bounds the splitter.
const MAX_DEPTH: usize = 256;

/// Rows of a JSON array.
pub(super) struct JsonArray<R> {
    reader: R,
    line: u64,
    place: Place,
}

#[derive(PartialEq, Eq)]
enum Place {
    BeforeArray,
    /// Where an element or the end may follow; `true` once a comma was seen.
    Between(bool),
    AfterArray,
    Ended,
}

impl<R: BufRead + Send> JsonArray<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: 1, place: Place::BeforeArray }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    fn take(&mut self, byte: u8) {
        self.reader.consume(1);
        self.line += u64::from(byte == b'\n');
    }

    fn peek_after_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.peek()? {
                Some(byte) if byte.is_ascii_whitespace() => self.take(byte),
                other => return Ok(other),
            }
        }
    }

    fn bad(&mut self, message: &str) -> Option<Found> {
        Some(Found { line: Some(self.line), content: Err(BadRow::new(message)) })
    }

    fn advance(&mut self) -> io::Result<Option<Found>> {
        loop {
            let next = self.peek_after_space()?;
            match (&self.place, next) {
                (Place::Ended, _) | (Place::AfterArray, None) => return Ok(None),
                (Place::BeforeArray, Some(b'[')) => {
                    self.take(b'[');
                    self.place = Place::Between(true);
                }
                (Place::BeforeArray, _) => {
                    self.place = Place::Ended;
                    return Ok(self.bad("a JSON array of rows must begin with ["));
                }
                (Place::AfterArray, Some(_)) => {
                    self.place = Place::Ended;
                    return Ok(self.bad("text after the end of the array; remove it"));
                }
                (Place::Between(_), None) => {
                    self.place = Place::Ended;
                    return Ok(self.bad("the file ends before the array does: it was cut off"));
                }
                (Place::Between(_), Some(b']')) => {
                    self.take(b']');
                    self.place = Place::AfterArray;
                }
                (Place::Between(_), Some(b',')) => {
                    self.take(b',');
                    self.place = Place::Between(true);
                }
                (Place::Between(comma), Some(_)) => {
                    let comma = *comma;
                    self.place = Place::Between(false);
                    return self.element(comma).map(Some);
                }
            }
        }
    }

    fn element(&mut self, comma_before: bool) -> io::Result<Found> {
        let line = self.line;
        let (text, end) = self.split_element()?;
        let content = match end {
            _ if !comma_before => Err(BadRow::new("a comma is missing between this row and the one before")),
            End::TooLong => Err(BadRow::new(format!("the row is longer than {} MiB", MAX_ROW_BYTES >> 20))),
            End::TooDeep => Err(BadRow::new(format!("nested deeper than {MAX_DEPTH} levels"))),
            End::NextBegins => {
                self.place = Place::Between(true);
                Err(parse_object(&text)
                    .err()
                    .unwrap_or_else(|| BadRow::new("broken JSON: a row does not end")))
            }
            End::Complete | End::CutOff => parse_object(&text),
        };
        let content = content.map_err(|bad| BadRow { line: bad.line.map(|within| line + within - 1), ..bad });
        Ok(Found { line: Some(line), content })
    }

    /// The bytes of one element, from its first byte.
    fn split_element(&mut self) -> io::Result<(Vec<u8>, End)> {
        let mut text = Vec::new();
        let mut open: Vec<u8> = Vec::new();
        let (mut in_string, mut escaped, mut last) = (false, false, b' ');
        let mut limit = None;
        loop {
            let Some(byte) = self.peek()? else { return Ok((text, limit.unwrap_or(End::CutOff))) };
            if in_string {
                match byte {
                    _ if escaped && byte != b'\n' => escaped = false,
                    b'\\' => escaped = true,
                    b'"' | b'\n' => (in_string, escaped) = (false, false),
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'{' if open.last() == Some(&b'{') && last != b':' => {
                        return Ok((text, limit.unwrap_or(End::NextBegins)));
                    }
                    b'{' | b'[' if open.len() >= MAX_DEPTH => {
                        limit = Some(End::TooDeep);
                        open.push(byte);
                        // Only the count matters from here on; a hostile file must not grow the stack for ever.
                        if open.len() > MAX_ROW_BYTES {
                            return Ok((text, End::TooDeep));
                        }
                    }
                    b'{' | b'[' => open.push(byte),
                    b'}' | b']' if open.len() > 1 => {
                        open.pop();
                    }
                    b'}' if open.is_empty() => {
                        // A bracket without its partner: a bad element of its own.
                        self.take(byte);
                        text.push(byte);
                        return Ok((text, End::Complete));
                    }
                    b'}' | b']' if !open.is_empty() => {
                        self.take(byte);
                        text.push(byte);
                        return Ok((text, limit.unwrap_or(End::Complete)));
                    }
                    b']' | b',' if open.is_empty() => return Ok((text, limit.unwrap_or(End::Complete))),
                    _ => {}
                }
                if !byte.is_ascii_whitespace() {
                    last = byte;
                }
            }
            self.take(byte);
            if text.len() < MAX_ROW_BYTES && limit.is_none() {
                text.push(byte);
            } else if limit.is_none() {
                limit = Some(End::TooLong);
                text = Vec::new();
            }
        }
    }
}

/// How the splitter left an element.
#[derive(Clone, Copy)]
enum End {
    Complete,
    NextBegins,
    CutOff,
    TooLong,
    TooDeep,
}

impl<R: BufRead + Send> Format for JsonArray<R> {
    fn next_row(&mut self) -> Option<io::Result<Found>> {
        self.advance().transpose()
    }
}
