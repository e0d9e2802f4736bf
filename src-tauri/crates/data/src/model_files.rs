//! Reads the small files of a model's folder, each at most as long as it can sensibly be.

use std::{fs::File, io::Read, path::Path};

use serde_json::Value;

use crate::error::DataError;

/// Configurations and token maps.
const MAX_JSON: u64 = 64 << 20;

/// The whole file.
///
/// # Errors
/// A file that cannot be read or is longer than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let file = File::open(path).map_err(|e| DataError::model_file(path, e))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| DataError::model_file(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(DataError::model_file(path, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// The file as JSON; `null` where there is none.
///
/// # Errors
/// A file that cannot be read or is not JSON.
pub(crate) fn read_json(path: &Path) -> Result<Value, DataError> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&read(path, MAX_JSON)?).map_err(|e| DataError::model_file(path, e))
}
