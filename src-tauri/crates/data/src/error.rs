//! What can be wrong with a dataset, a tokenizer or a chat template, each with the way out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use types::{
    Strategy, Task,
    dataset::{RowError, RowForm},
};

/// How many bad rows a sentence names before it only counts the rest.
const NAMED_ROWS: usize = 5;

/// Everything this crate refuses.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The dataset is not there.
    #[error("Dataset validation failed: File not found")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The dataset cannot be opened or read.
    #[error("Dataset validation failed: {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The dataset as a whole is not what can be read.
    #[error("Dataset validation failed: {path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: FileProblem,
    },
    /// The rows have none of the known forms.
    #[error(
        "Dataset validation failed: the rows have the fields {}, which is no known form. For {task} a row needs {}",
        list(fields),
        forms_of(fitting)
    )]
    UnknownForm {
        /// The fields of the first row.
        fields: Vec<String>,
        /// What the dataset is for.
        task: Task,
        /// The forms that would do.
        fitting: Vec<RowForm>,
    },
    /// The rows have a form that is for something else.
    #[error(
        "Dataset validation failed: the rows have the fields {}, which do not go with task {task} and strategy \
         {strategy}. They need {}",
        crate::form::fields_of(*form), forms_of(fitting)
    )]
    WrongForm {
        /// What the rows are.
        form: RowForm,
        /// What the dataset is for.
        task: Task,
        /// How it is to be trained on.
        strategy: Strategy,
        /// The forms that would do.
        fitting: Vec<RowForm>,
    },
    /// Some rows are bad.
    #[error("Dataset validation failed: {0}")]
    Rows(BadRows),
    /// Nothing to train on is left.
    #[error("Dataset validation failed: {path} has no usable row{}", first_of(errors), path = path.display())]
    NoUsableRows {
        /// The file.
        path: PathBuf,
        /// Why, where there is a row to blame.
        errors: BadRows,
    },
    /// The longest length asked for does not fit the model.
    #[error(
        "max_seq_length is {max_seq_length}, but the model reads at most {context_length} tokens: set max_seq_length \
         to {context_length} or less"
    )]
    MaxSeqLength {
        /// As asked.
        max_seq_length: u32,
        /// What the model can.
        context_length: usize,
    },
    /// The strategy needs a model that goes on with a text.
    #[error(
        "strategy {0} works with decoder-only models (such as Llama, Qwen or Gemma); use sft for this model"
    )]
    NotDecoderOnly(Strategy),
    /// The file that holds the tokens cannot be written or read.
    #[error("{path}: {source}", path = path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the model is missing or not what it should be.
    #[error("{path}: {message}", path = path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the fix.
        message: String,
    },
    /// The model would never stop.
    #[error(
        "{dir}: the tokenizer names no end-of-sequence token. Add \"eos_token\" to tokenizer_config.json or \
         \"eos_token_id\" to generation_config.json", dir = dir.display()
    )]
    NoEos {
        /// The model's folder.
        dir: PathBuf,
    },
    /// The chat template is wrong or refuses the conversation.
    #[error("{file}:{line}: {message}")]
    Template {
        /// The file it comes from.
        file: String,
        /// The line in the template, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The tokenizer refuses a text.
    #[error("the tokenizer cannot encode the text: {message}")]
    Encode {
        /// What it says.
        message: String,
    },
    /// The answer is nowhere in what the template made of the conversation.
    #[error("the chat template's output does not contain the assistant's answer, so nothing can be trained")]
    AnswerNotRendered,
    /// A model that writes its answers is to learn from a question that has none.
    #[error(
        "the question has no answer; only models that point at answers (BERT, RoBERTa, DistilBERT, DeBERTa) learn from \
         such rows: remove them, or skip bad rows"
    )]
    NoAnswer,
    /// The answer is not a part of the text.
    #[error(
        "the answer {answer:?} is not in the context, word for word; a model that points at answers cannot learn it"
    )]
    AnswerNotInContext {
        /// The answer, or its beginning.
        answer: String,
    },
    /// The row is no question about a text.
    #[error(
        "this model points at answers in a text: it learns from rows with context, question and answer, not from \
         conversations"
    )]
    NoQuestion,
    /// Nothing of the text fits beside the question.
    #[error("the question takes {question} of {max_len} tokens and leaves no room for the context")]
    QuestionTooLong {
        /// The longest length.
        max_len: usize,
        /// Tokens of the question and of what separates it from the text.
        question: usize,
    },
    /// Not one token of the answer fits.
    #[error("not one token of the answer fits into {max_len} tokens: the template alone takes {overhead}")]
    NoRoom {
        /// The longest length.
        max_len: usize,
        /// Tokens that cannot be cut.
        overhead: usize,
    },
}

/// Why a whole file cannot be read as a dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// A folder.
    #[error("this is a folder; give the dataset file in it")]
    Folder,
    /// A pipe, a socket or a device.
    #[error("this is a pipe or a device; save the rows in a file")]
    NoRegularFile,
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Text that is not UTF-8.
    #[error("the file is written in {0}; save it as UTF-8")]
    Encoding(&'static str),
    /// Packed.
    #[error("the file is compressed ({0}); unpack it first")]
    Compressed(&'static str),
    /// None of the formats.
    #[error("the format is not known; use .jsonl, .json, .csv or .parquet")]
    UnknownFormat,
    /// One object over many lines.
    #[error(
        "the file holds one JSON object instead of rows; write the rows as a JSON array [{{…}}, {{…}}] or one object a line"
    )]
    SingleObject,
    /// Too wide.
    #[error("{0} columns, at most {max} are read", max = crate::source::MAX_COLUMNS)]
    TooManyColumns(usize),
    /// A CSV column with no name, or with another's.
    #[error("line 1: column {column} has {what}; every column needs a name of its own")]
    Header {
        /// From 1.
        column: usize,
        /// `no name` or `the name of another column`.
        what: &'static str,
    },
    /// The file contradicts itself.
    #[error("the file is damaged: {0}")]
    Damaged(String),
}

/// The first bad rows and how many there are in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    /// What is wrong with the first ones.
    pub errors: Vec<RowError>,
    /// How many rows are bad in all.
    pub total: u64,
}

impl BadRows {
    /// Notes a bad row, keeping at most `limit` errors.
    pub fn push(&mut self, errors: Vec<RowError>, limit: usize) {
        self.total += 1;
        let room = limit.saturating_sub(self.errors.len());
        self.errors.extend(errors.into_iter().take(room));
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = &self.errors[..self.errors.len().min(NAMED_ROWS)];
        for (i, error) in named.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        let mut rows: Vec<u64> = named.iter().map(|error| error.row).collect();
        rows.dedup();
        match self.total.saturating_sub(rows.len() as u64) {
            0 => Ok(()),
            1 => write!(f, "; and 1 more row"),
            more => write!(f, "; and {more} more rows"),
        }
    }
}

impl DataError {
    /// An I/O error on the dataset, told by what it means for a person.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path: path.into() },
            io::ErrorKind::IsADirectory => Self::file(path, FileProblem::Folder),
            _ => Self::Read { path: path.into(), source },
        }
    }

    pub(crate) fn file(path: &Path, problem: FileProblem) -> Self {
        Self::File { path: path.into(), problem }
    }

    pub(crate) fn model_file(path: &Path, message: impl fmt::Display) -> Self {
        Self::ModelFile { path: path.into(), message: message.to_string() }
    }

    /// Whether the row is to blame, so that the next row may still be fine.
    pub(crate) fn is_about_one_row(&self) -> bool {
        matches!(
            self,
            Self::Template { .. }
                | Self::Encode { .. }
                | Self::AnswerNotRendered
                | Self::NoAnswer
                | Self::AnswerNotInContext { .. }
                | Self::NoQuestion
                | Self::QuestionTooLong { .. }
                | Self::NoRoom { .. }
        )
    }
}

fn list(fields: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = fields.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if fields.is_empty() {
        text.push_str("(none)");
    } else if fields.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

fn forms_of(forms: &[RowForm]) -> String {
    forms.iter().map(|&form| crate::form::fields_of(form)).collect::<Vec<_>>().join(", or ")
}

fn first_of(errors: &BadRows) -> String {
    if errors.total == 0 { String::new() } else { format!(": {errors}") }
}
