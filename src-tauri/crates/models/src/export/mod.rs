//! A base model with its adapter merged in, written for other programs: safetensors as transformers has them, or GGUF.
//!
//! Tensors are read, merged, encoded and written one at a time. Deliberately not here: the tokenizer and the other small
//! files.

mod encode;
pub mod gguf;
mod merge;
pub mod safetensors;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

pub use merge::Merged;

use crate::ModelError;

/// Told how many bytes of weights have been written; an error ends the export.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> Result<(), ModelError>;

/// Makes the file at `path`, which must not exist, and has it on the disk when this returns.
fn create(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(io)?);
    fill(&mut out)?;
    out.flush().map_err(io)?;
    out.get_ref().sync_all().map_err(io)
}
