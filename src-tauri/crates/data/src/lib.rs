//! From dataset files to batches of tokens: readers, row forms, chat templates, loss masks, packing.
//!
//! A file is read as [`Rows`], each row means an [`Example`], a task makes a conversation of it, the [`Tokenizer`] with
//! the model's chat template makes ids of that and marks those the loss counts ([`Encoded`]); [`prepare`] does so for a
//! whole file and [`plan_epoch`] says which rows are computed together. Nothing here computes on tensors.

pub mod batch;
mod encode;
mod encoder_decoder;
mod error;
mod example;
mod form;
mod model_files;
mod plan;
mod prepare;
mod preview;
mod question;
mod scan;
mod source;
mod template;
mod text_stream;
mod token_rows;
mod tokenizer;
mod vocabulary;
mod vocabulary_files;

pub use batch::{Batch, IGNORED};
pub use encode::Encoded;
pub use encoder_decoder::{EarlyStopping, EncoderDecoder, Writing};
pub use error::{BadRows, DataError, FileProblem};
pub use example::{Example, PromptParts, prompt_for, question_of};
pub use form::{fitting_forms, required_fields};
pub use plan::{PlanOptions, plan_epoch};
pub use prepare::{PrepareOptions, PrepareStats, Prepared, Progress, prepare};
pub use preview::preview;
pub use question::{Window, overlap};
pub use scan::{Examples, Numbered, check, examples, examples_at};
pub use source::{MAX_COLUMNS, MAX_ROW_BYTES, Row, Rows, open};
pub use template::{ChatTemplate, PLAIN};
pub use text_stream::TextStream;
pub use token_rows::TokenRows;
pub use tokenizer::Tokenizer;
pub use vocabulary::{Cutting, TokenKind, Vocabulary};
