//! GGUF, version 3: one file with metadata, tokenizer and tensors, for llama.cpp and the programs built on it.
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod check;
mod value;

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use types::ExportDtype;
pub use value::Value;

use super::{Merged, Progress, create, encode, safetensors::does_not_fit};
use crate::{ModelError, arch};

/// Tensors begin at multiples of this many bytes.
const ALIGNMENT: u64 = 32;
const VERSION: u32 = 3;

/// How a family of models is laid out in GGUF.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The name there.
    pub architecture: &'static str,
    /// Sizes and other facts by their keys.
    pub metadata: Vec<(String, Value)>,
    /// Every tensor.
    pub tensors: Vec<Mapping>,
    /// `rope_freqs.weight`: what the rotary frequencies are divided by.
    pub rope_divisors: Option<Vec<f32>>,
}

/// A tensor's name here and there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// In the published weights.
    pub from: String,
    /// In the file.
    pub to: String,
    /// Where the rows of each of so many heads change places: those of its first half to the even ones, those of its second
    /// half to the odd ones.
    pub heads: Option<usize>,
}

impl Mapping {
    /// The same values under another name.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), heads: None }
    }
}

/// What is written, and where.
pub struct Plan {
    dtype: ExportDtype,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Planned>,
}

struct Planned {
    name: String,
    source: Source,
    shape: Vec<usize>,
    dtype: ExportDtype,
    offset: u64,
    bytes: u64,
}

enum Source {
    Merged(Mapping),
    Values(Vec<f32>),
}

impl Plan {
    /// Plans the file of the model in `base`, merged. Tensors with one side stay in f32, and those whose rows are no whole
    /// number of blocks are f16 instead of Q8_0, as llama.cpp has it. `tokenizer` is the metadata of the tokenizer.
    ///
    /// # Errors
    /// A family that llama.cpp's layout is not known of here, and tensors that are missing.
    pub fn new(
        base: &Path,
        merged: &Merged,
        dtype: Option<ExportDtype>,
        name: &str,
        tokenizer: Vec<(String, Value)>,
    ) -> Result<Self, ModelError> {
        let layout = arch::gguf_layout(base)?;
        let dtype = match (dtype, layout.tensors.first()) {
            (Some(dtype), _) => dtype,
            (None, Some(first)) => merged.dtype(&first.from)?,
            (None, None) => ExportDtype::F32,
        };
        let mut plan = Plan { dtype, metadata: Vec::new(), tensors: Vec::new() };
        let text = |text: &str| Value::Text(text.to_owned());
        let general = [
            ("architecture", text(layout.architecture)),
            ("type", text("model")),
            ("name", text(name)),
            ("file_type", Value::U32(file_type(dtype))),
            ("quantization_version", Value::U32(2)),
        ];
        plan.metadata.extend(general.map(|(key, value)| (format!("general.{key}"), value)));
        plan.metadata.extend(layout.metadata);
        plan.metadata.extend(tokenizer);
        if let Some(values) = layout.rope_divisors {
            plan.push(
                "rope_freqs.weight".into(),
                vec![values.len()],
                ExportDtype::F32,
                Source::Values(values),
            );
        }
        for mapping in layout.tensors {
            let shape = merged.shape(&mapping.from)?.to_vec();
            let row = shape.last().copied().unwrap_or(0);
            let rows = shape.first().copied().unwrap_or(0);
            if shape.contains(&0) || mapping.heads.is_some_and(|heads| !rows.is_multiple_of(2 * heads)) {
                let problem = format!("its shape {shape:?} is not what config.json says");
                let path = base.to_owned();
                return Err(ModelError::Tensor { path, tensor: mapping.from, problem });
            }
            let dtype = match dtype {
                _ if shape.len() < 2 => ExportDtype::F32,
                ExportDtype::Q8_0 if !row.is_multiple_of(encode::BLOCK) => ExportDtype::F16,
                dtype => dtype,
            };
            plan.push(mapping.to.clone(), shape, dtype, Source::Merged(mapping));
        }
        Ok(plan)
    }

    /// What the large tensors are stored in.
    pub fn dtype(&self) -> ExportDtype {
        self.dtype
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |tensor| tensor.offset + tensor.bytes)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Tensors that cannot be read or do not fit the dtype; the disk.
    pub fn write(&self, merged: &Merged, path: &Path, progress: Progress<'_>) -> Result<(), ModelError> {
        create(path, |out| self.fill(merged, path, out, progress))
    }

    fn push(&mut self, name: String, shape: Vec<usize>, dtype: ExportDtype, source: Source) {
        let offset = self.bytes().next_multiple_of(ALIGNMENT);
        let bytes = encode::bytes(dtype, shape.iter().product());
        self.tensors.push(Planned { name, source, shape, dtype, offset, bytes });
    }

    fn fill(
        &self,
        merged: &Merged,
        path: &Path,
        out: &mut BufWriter<std::fs::File>,
        progress: Progress<'_>,
    ) -> Result<(), ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let mut header = Vec::new();
        self.describe(&mut header).map_err(io)?;
        header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
        out.write_all(&header).map_err(io)?;
        let mut at = 0;
        for tensor in &self.tensors {
            let padding = vec![0; (tensor.offset - at) as usize];
            out.write_all(&padding).map_err(io)?;
            let values = tensor.values(merged)?;
            if let Some(value) = encode::too_large(tensor.dtype, &values) {
                return Err(does_not_fit(path, &tensor.name, tensor.dtype, value));
            }
            encode::encode(tensor.dtype, &values, out).map_err(io)?;
            at = tensor.offset + tensor.bytes;
            progress(at)?;
        }
        // Readers take the last tensor to be padded too.
        out.write_all(&vec![0; (at.next_multiple_of(ALIGNMENT) - at) as usize]).map_err(io)
    }

    /// Everything before the tensors' data.
    fn describe(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.write_all(b"GGUF")?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        out.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in &self.metadata {
            value::write_text(key, out)?;
            value.write(out)?;
        }
        for tensor in &self.tensors {
            value::write_text(&tensor.name, out)?;
            out.write_all(&(tensor.shape.len() as u32).to_le_bytes())?;
            // The innermost side first.
            for side in tensor.shape.iter().rev() {
                out.write_all(&(*side as u64).to_le_bytes())?;
            }
            out.write_all(&tensor_type(tensor.dtype).to_le_bytes())?;
            out.write_all(&tensor.offset.to_le_bytes())?;
        }
        Ok(())
    }
}

impl Planned {
    /// What is to be in the file, before it is rounded.
    fn values(&self, merged: &Merged) -> Result<Vec<f32>, ModelError> {
        match &self.source {
            Source::Values(values) => Ok(values.clone()),
            Source::Merged(mapping) => {
                let values = merged.read(&mapping.from)?;
                Ok(match (mapping.heads, self.shape.first()) {
                    (Some(heads), Some(rows)) => interleave(&values, *rows, heads),
                    _ => values,
                })
            }
        }
    }
}

/// Of each head's rows, first half `a b c` and second half `A B C`, makes `a A b B c C`.
fn interleave(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (width, half) = (values.len() / rows.max(1), rows / heads.max(1) / 2);
    let mut moved = Vec::with_capacity(values.len());
    for head in values.chunks(2 * half * width) {
        let (first, second) = head.split_at(half * width);
        for (a, b) in first.chunks(width).zip(second.chunks(width)) {
            moved.extend_from_slice(a);
            moved.extend_from_slice(b);
        }
    }
    moved
}

/// ggml's number of a tensor's type.
fn tensor_type(dtype: ExportDtype) -> u32 {
    match dtype {
        ExportDtype::F32 => 0,
        ExportDtype::F16 => 1,
        ExportDtype::Q8_0 => 8,
        ExportDtype::Bf16 => 30,
    }
}

/// llama.cpp's number of a file whose large tensors have this type.
fn file_type(dtype: ExportDtype) -> u32 {
    match dtype {
        ExportDtype::F32 => 0,
        ExportDtype::F16 => 1,
        ExportDtype::Q8_0 => 7,
        ExportDtype::Bf16 => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_each_head_are_interleaved() {
        // Two heads of four rows, two values a row: the row's number and its negative.
        let values: Vec<f32> = (0..8).flat_map(|row| [row as f32, -(row as f32)]).collect();
        let rows: Vec<f32> = interleave(&values, 8, 2).chunks(2).map(|row| row[0]).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0], "first half to even rows, second to odd");
    }
}
