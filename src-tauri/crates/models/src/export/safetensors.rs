//! A merged model as transformers writes it: `model.safetensors`, or shards and their index where it is large.

use std::{
    collections::BTreeMap,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Map, Value, json};
use types::{ExportDtype, files};

use super::{Merged, Progress, create, encode};
use crate::ModelError;

/// The largest shard, as in transformers.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// What goes into which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    shards: Vec<Shard>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Shard {
    tensors: Vec<Planned>,
    bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    name: String,
    shape: Vec<usize>,
    dtype: ExportDtype,
    bytes: u64,
}

impl Plan {
    /// Every tensor of `merged` in its own dtype or in `dtype`, in files of at most `most` bytes, or of one tensor.
    ///
    /// # Errors
    /// Tensors that are stored in a way that is not read, and a dtype that the format does not have.
    pub fn new(merged: &Merged, dtype: Option<ExportDtype>, most: u64) -> Result<Self, ModelError> {
        if dtype == Some(ExportDtype::Q8_0) {
            let problem = "safetensors has no q8_0; export as f16, bf16 or f32, or as gguf";
            return Err(ModelError::Export(problem.into()));
        }
        let mut shards = vec![Shard::default()];
        for (name, entry) in merged.tensors() {
            let dtype = match dtype {
                Some(dtype) => dtype,
                None => merged.dtype(name)?,
            };
            let bytes = encode::bytes(dtype, entry.shape.iter().product());
            let planned = Planned { name: name.to_owned(), shape: entry.shape.clone(), dtype, bytes };
            match shards.last_mut() {
                Some(shard) if shard.tensors.is_empty() || shard.bytes + bytes <= most => shard.push(planned),
                _ => shards.push(Shard { bytes, tensors: vec![planned] }),
            }
        }
        // The widest values first keeps each tensor at a multiple of its values' width.
        for shard in &mut shards {
            shard.tensors.sort_by_key(|tensor| std::cmp::Reverse(encode::bytes(tensor.dtype, 1)));
        }
        Ok(Plan { shards })
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// The largest part of a value that is rounded away.
    pub fn rounding(&self) -> f32 {
        let tensors = self.shards.iter().flat_map(|shard| &shard.tensors);
        tensors.map(|tensor| tensor.dtype.rounding()).fold(0.0, f32::max)
    }

    /// Writes the files into `folder`.
    ///
    /// # Errors
    /// Tensors that cannot be read or do not fit the dtype; the disk.
    pub fn write(&self, merged: &Merged, folder: &Path, progress: Progress<'_>) -> Result<(), ModelError> {
        let count = self.shards.len();
        let mut done = 0;
        let mut map = BTreeMap::new();
        for (index, shard) in self.shards.iter().enumerate() {
            let file = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            let path = folder.join(&file);
            create(&path, |out| shard.write(merged, &path, out, &mut done, progress))?;
            map.extend(shard.tensors.iter().map(|tensor| (tensor.name.as_str(), file.clone())));
        }
        if count > 1 {
            let path = folder.join("model.safetensors.index.json");
            let index = json!({"metadata": {"total_size": self.bytes()}, "weight_map": map});
            files::write_json(&path, &index).map_err(|source| ModelError::Io { path, source })?;
        }
        Ok(())
    }
}

impl Shard {
    fn push(&mut self, tensor: Planned) {
        self.bytes += tensor.bytes;
        self.tensors.push(tensor);
    }

    fn write(
        &self,
        merged: &Merged,
        path: &Path,
        out: &mut BufWriter<std::fs::File>,
        done: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        out.write_all(&self.header()).map_err(io)?;
        for tensor in &self.tensors {
            let values = merged.read(&tensor.name)?;
            if let Some(value) = encode::too_large(tensor.dtype, &values) {
                return Err(does_not_fit(path, &tensor.name, tensor.dtype, value));
            }
            encode::encode(tensor.dtype, &values, out).map_err(io)?;
            *done += tensor.bytes;
            progress(*done)?;
        }
        Ok(())
    }

    /// Length and JSON, filled up with spaces so that the data begins at a multiple of 8.
    fn header(&self) -> Vec<u8> {
        let mut fields = Map::new();
        fields.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut at = 0;
        for tensor in &self.tensors {
            let described = json!({
                "dtype": dtype_name(tensor.dtype), "shape": tensor.shape, "data_offsets": [at, at + tensor.bytes],
            });
            fields.insert(tensor.name.clone(), described);
            at += tensor.bytes;
        }
        let mut json = Value::Object(fields).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.append(&mut json);
        header
    }
}

/// Values beyond what the dtype can hold would become infinite.
pub(super) fn does_not_fit(path: &Path, name: &str, dtype: ExportDtype, value: f32) -> ModelError {
    let problem = format!("has a value of {value:e}, which {dtype} cannot hold; export as bf16 or f32");
    ModelError::Tensor { path: path.to_owned(), tensor: name.to_owned(), problem }
}

fn dtype_name(dtype: ExportDtype) -> &'static str {
    match dtype {
        ExportDtype::F32 => "F32",
        ExportDtype::F16 => "F16",
        ExportDtype::Bf16 => "BF16",
        // No safetensors type; a plan with it is refused before.
        ExportDtype::Q8_0 => "U8",
    }
}
