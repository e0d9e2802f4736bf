//! The header of a safetensors file, checked before a single tensor is read.
//!
//! Layout: the header's length as little-endian u64, the header as JSON `{name: {dtype, shape, data_offsets}}`, then
//! the data. <https://huggingface.co/docs/safetensors#format>

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};
use types::ExportDtype;

use crate::ModelError;

/// The format's own limit of a header.
const MAX_HEADER: u64 = 100_000_000;

/// Types a weight may be stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
}

impl Stored {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        if self == Stored::F32 { 4 } else { 2 }
    }

    /// The dtype that an export keeps.
    pub fn dtype(self) -> ExportDtype {
        match self {
            Stored::F32 => ExportDtype::F32,
            Stored::Bf16 => ExportDtype::Bf16,
            Stored::F16 => ExportDtype::F16,
        }
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// Type of its values; `None` for one that weights are not stored in, by its name in `dtype`.
    pub stored: Option<Stored>,
    /// The type's name in the file.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its first byte in the file.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors of a safetensors file by name.
///
/// # Errors
/// When the header is cut off, too long, not JSON, or describes tensors whose offsets leave the data, overlap, leave
/// gaps, or do not fit their shape and type.
pub fn read_header(path: &Path) -> Result<BTreeMap<String, Entry>, ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let wrong = |problem: String| ModelError::File { path: path.to_owned(), problem };
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut prefix = [0u8; 8];
    if size < 8 {
        return Err(wrong(format!("not a safetensors file: it has only {size} bytes")));
    }
    file.read_exact(&mut prefix).map_err(io)?;
    let length = u64::from_le_bytes(prefix);
    if length > MAX_HEADER || length > size - 8 {
        return Err(wrong(format!(
            "the header claims {length} bytes of a file of {size}: the file is truncated or not safetensors"
        )));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(io)?;
    parse(path, &header, size - 8 - length)
}

/// Checks a header's JSON against the `data` bytes that follow it in the file at `path`.
pub fn parse(path: &Path, header: &[u8], data: u64) -> Result<BTreeMap<String, Entry>, ModelError> {
    let wrong = |problem: String| ModelError::File { path: path.to_owned(), problem };
    let fields: Map<String, Value> =
        serde_json::from_slice(header).map_err(|e| wrong(format!("the header is not valid JSON: {e}")))?;
    let mut entries = BTreeMap::new();
    for (name, value) in fields {
        if name == "__metadata__" {
            continue;
        }
        let entry = entry(path, value, header.len() as u64, data).map_err(|problem| ModelError::Tensor {
            path: path.to_owned(),
            tensor: name.clone(),
            problem,
        })?;
        entries.insert(name, entry);
    }
    let mut order: Vec<(&String, &Entry)> = entries.iter().collect();
    order.sort_by_key(|(_, e)| (e.start, e.bytes));
    let mut at = 8 + header.len() as u64;
    for (name, entry) in order {
        if entry.start != at {
            let problem = format!(
                "starts at byte {} where {at} was expected: tensors overlap or leave a gap",
                entry.start
            );
            return Err(ModelError::Tensor { path: path.to_owned(), tensor: name.clone(), problem });
        }
        at += entry.bytes;
    }
    let end = 8 + header.len() as u64 + data;
    if at != end {
        return Err(wrong(format!("the tensors end at byte {at}, the file at byte {end}")));
    }
    Ok(entries)
}

/// One tensor's description, or what is wrong with it.
fn entry(path: &Path, value: Value, header: u64, data: u64) -> Result<Entry, String> {
    let described: Described = serde_json::from_value(value).map_err(|e| format!("badly described: {e}"))?;
    let (from, to) = described.data_offsets;
    if from > to || to > data {
        return Err(format!(
            "its offsets {from}..{to} leave the {data} bytes of data: the file is truncated"
        ));
    }
    let (width, stored) = match described.dtype.as_str() {
        "F32" => (4, Some(Stored::F32)),
        "BF16" => (2, Some(Stored::Bf16)),
        "F16" => (2, Some(Stored::F16)),
        "F64" | "I64" | "U64" => (8, None),
        "I32" | "U32" => (4, None),
        "I16" | "U16" => (2, None),
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => (1, None),
        other => return Err(format!("type {other:?} is not known")),
    };
    let too_large = || format!("shape {:?} is too large", described.shape);
    let bytes = described
        .shape
        .iter()
        .try_fold(width as u64, |product, &side| product.checked_mul(side))
        .ok_or_else(too_large)?;
    if bytes != to - from {
        return Err(format!(
            "{} bytes for shape {:?} of {}, which takes {bytes}",
            to - from,
            described.shape,
            described.dtype
        ));
    }
    let shape = described
        .shape
        .iter()
        .map(|&side| usize::try_from(side))
        .collect::<Result<_, _>>()
        .map_err(|_| too_large())?;
    Ok(Entry {
        path: path.to_owned(),
        stored,
        dtype: described.dtype,
        shape,
        start: 8 + header + from,
        bytes,
    })
}
