//! From dataset files to batches of tokens: readers, row forms, chat templates, loss masks, packing.

pub mod batch;

pub use batch::{Batch, IGNORED};
