//! What checking and previewing a dataset tells.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// One JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values with a header line.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// Which fields the rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowForm {
    /// `input`, `output`.
    InputOutput,
    /// `document`, `summary`.
    DocumentSummary,
    /// `context`, `question`, `answer`.
    ContextQuestionAnswer,
    /// `context`, `question`, `answers: {text: [...], answer_start: [...]}`.
    Squad,
    /// `messages: [{role, content}, …]`.
    Messages,
    /// `conversations: [{from, value}, …]`.
    ShareGpt,
    /// `instruction`, optional `input`, `output`.
    Alpaca,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
}

/// One thing wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowError {
    /// Line in the file, from 1; absent where a format has no lines (Parquet).
    pub line: Option<u64>,
    /// Row among the rows, from 1.
    pub row: u64,
    /// The field it is about.
    pub field: Option<String>,
    /// What is wrong, with the fix where there is one.
    pub message: String,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => write!(f, "row {}: {}", self.row, self.message),
        }
    }
}

/// What a whole pass over a dataset found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetReport {
    /// The file.
    pub path: PathBuf,
    /// How it is written.
    pub format: FileFormat,
    /// Which fields its rows have; absent when no row could be read.
    pub form: Option<RowForm>,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows in it, bad ones included.
    pub rows: u64,
    /// Rows that can be trained on.
    pub usable_rows: u64,
    /// Column names in the order of the first row.
    pub columns: Vec<String>,
    /// The first bad rows.
    pub errors: Vec<RowError>,
    /// How many bad rows there are in all.
    pub error_count: u64,
}

/// One token of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewToken {
    /// Its id in the vocabulary.
    pub id: u32,
    /// Its text; empty while a character spans this and the next token.
    pub text: String,
    /// Whether the loss counts it.
    pub trained: bool,
    /// Whether it is a special token.
    pub special: bool,
}

/// One row exactly as the model would see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewRow {
    /// Row in the file, from 1.
    pub row: u64,
    /// The text after the chat template, special tokens included.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<PreviewToken>,
    /// Tokens cut off to fit the longest length.
    pub cut_tokens: u64,
}
