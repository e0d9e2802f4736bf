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
        let mut splitter = Splitter::default();
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok((text, splitter.limit.unwrap_or(End::CutOff)));
            }
            let step = chunk.iter().enumerate().find_map(|(i, &byte)| match splitter.step(byte) {
                Step::Go => None,
                Step::EndBefore(end) => Some((i, end)),
                Step::EndAfter(end) => Some((i + 1, end)),
            });
            let used = step.map_or(chunk.len(), |(used, _)| used);
            let piece = chunk.get(..used).unwrap_or_default();
            self.line += piece.iter().filter(|&&b| b == b'\n').count() as u64;
            if splitter.limit.is_none() && text.len() + used > MAX_ROW_BYTES {
                splitter.limit = Some(End::TooLong);
                text = Vec::new();
            }
            if splitter.limit.is_none() {
                text.extend_from_slice(piece);
            }
            self.reader.consume(used);
            if let Some((_, end)) = step {
                return Ok((text, splitter.limit.unwrap_or(end)));
            }
        }
    }
}

/// Follows strings and brackets to where an element ends.
#[derive(Default)]
struct Splitter {
    /// Open brackets, the first [`MAX_DEPTH`] of them.
    open: Vec<u8>,
    /// How many more are open.
    deeper: u64,
    in_string: bool,
    escaped: bool,
    /// The last byte outside strings that is no space.
    last: u8,
    /// Why the element cannot be read, whatever comes.
    limit: Option<End>,
}

enum Step {
    Go,
    EndBefore(End),
    EndAfter(End),
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

impl Splitter {
    fn step(&mut self, byte: u8) -> Step {
        if self.in_string {
            match byte {
                b'\n' => (self.in_string, self.escaped) = (false, false),
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Step::Go;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' if self.open.last() == Some(&b'{') && self.last != b':' && self.deeper == 0 => {
                return Step::EndBefore(End::NextBegins);
            }
            b'{' | b'[' if self.open.len() == MAX_DEPTH => {
                self.limit = Some(End::TooDeep);
                self.deeper += 1;
            }
            b'{' | b'[' => self.open.push(byte),
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' if self.open.len() > 1 => {
                self.open.pop();
            }
            b'}' => return Step::EndAfter(End::Complete),
            b']' if !self.open.is_empty() => return Step::EndAfter(End::Complete),
            b']' | b',' if self.open.is_empty() => return Step::EndBefore(End::Complete),
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        Step::Go
    }
}

impl<R: BufRead + Send> Format for JsonArray<R> {
    fn next_row(&mut self) -> Option<io::Result<Found>> {
        self.advance().transpose()
    }
}
