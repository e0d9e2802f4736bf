//! Reading a written file back with another implementation, candle's, and comparing every tensor.

use std::{fs::File, io::BufReader, path::Path};

use candle_core::{Device, quantized::gguf_file::Content};
use types::ExportDtype;

use super::{Plan, Planned, Value};
use crate::{
    ModelError,
    export::{Merged, encode::BLOCK},
};

impl Plan {
    /// Whether the file at `path` has the planned metadata and tensors, each value within the rounding of its dtype.
    ///
    /// # Errors
    /// It cannot be read as GGUF.
    pub fn holds(&self, merged: &Merged, path: &Path) -> Result<bool, ModelError> {
        let mut file = BufReader::new(
            File::open(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?,
        );
        let content = Content::read(&mut file)?;
        let told = |(key, value): &(String, Value)| {
            content.metadata.get(key).is_some_and(|found| same(value, found))
        };
        if content.tensor_infos.len() != self.tensors.len() || !self.metadata.iter().all(told) {
            return Ok(false);
        }
        for tensor in &self.tensors {
            if !content.tensor_infos.contains_key(&tensor.name) {
                return Ok(false);
            }
            let read = content.tensor(&mut file, &tensor.name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
            let wanted = tensor.values(merged)?;
            if read.dims() != tensor.shape || !tensor.is_near(&wanted, &read.flatten_all()?.to_vec1()?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Planned {
    /// Whether `found` is `wanted` but for rounding.
    fn is_near(&self, wanted: &[f32], found: &[f32]) -> bool {
        if wanted.len() != found.len() {
            return false;
        }
        let each = |tolerance: &dyn Fn(f32) -> f32| {
            wanted.iter().zip(found).all(|(a, b)| (a - b).abs() <= tolerance(a.abs()))
        };
        match self.dtype {
            ExportDtype::F32 => wanted.iter().zip(found).all(|(a, b)| a.to_bits() == b.to_bits()),
            // Half of the last of 11 bits, or of the smallest number there is.
            ExportDtype::F16 => each(&|a| (a / 2048.0).max(2f32.powi(-25))),
            // Half of the last of 8 bits.
            ExportDtype::Bf16 => each(&|a| (a / 256.0).max(f32::MIN_POSITIVE)),
            // Half a step of the block, and what the rounding of the step to f16 makes of 127 of them.
            ExportDtype::Q8_0 => wanted.chunks(BLOCK).zip(found.chunks(BLOCK)).all(|(a, b)| {
                let largest = a.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let most = largest * (0.51 / 127.0 + 1.0 / 2048.0) + 127.0 * 2f32.powi(-25);
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most)
            }),
        }
    }
}

fn same(value: &Value, found: &candle_core::quantized::gguf_file::Value) -> bool {
    use candle_core::quantized::gguf_file::Value as Found;
    match (value, found) {
        (Value::U32(a), Found::U32(b)) => a == b,
        (Value::F32(a), Found::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::Bool(a), Found::Bool(b)) => a == b,
        (Value::Text(a), Found::String(b)) => a == b,
        (Value::I32s(a), Found::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| matches!(b, Found::I32(b) if a == b))
        }
        (Value::F32s(a), Found::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| matches!(b, Found::F32(b) if a == b))
        }
        (Value::Texts(a), Found::Array(b)) => {
            // The reader drops zero bytes at the end of a text.
            let same =
                |(a, b): (&String, &Found)| matches!(b, Found::String(b) if a.trim_end_matches('\0') == b);
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => false,
    }
}
