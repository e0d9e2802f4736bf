//! Fields of a JSON file from outside, with errors that name file, field and value.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::ModelError;

/// A configuration file is never larger.
const MAX_BYTES: u64 = 16 << 20;

/// The object in a JSON file.
#[derive(Debug, Clone)]
pub(crate) struct JsonFile {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl JsonFile {
    /// Reads the object in the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        let wrong = |problem: String| ModelError::File { path: path.to_owned(), problem };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("larger than {MAX_BYTES} bytes, which no such file is")));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(JsonFile { path: path.to_owned(), fields }),
            Ok(_) => Err(wrong("a JSON object is expected".into())),
            Err(e) => Err(wrong(format!("not valid JSON: {e}"))),
        }
    }

    /// An object inside this one, for fields of its own.
    pub(crate) fn object(&self, field: &str) -> Result<Option<JsonFile>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => {
                Ok(Some(JsonFile { path: self.path.clone(), fields: fields.clone() }))
            }
            Some(_) => Err(self.wrong(field, "must be an object")),
        }
    }

    /// The same with the fields of `usual` where it has none of that name.
    pub(crate) fn or(&self, usual: &Value) -> JsonFile {
        let mut fields = self.fields.clone();
        for (name, value) in usual.as_object().into_iter().flatten() {
            if self.get(name).is_none() {
                fields.insert(name.clone(), value.clone());
            }
        }
        JsonFile { path: self.path.clone(), fields }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a field; `null` counts as absent.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|v| !v.is_null())
    }

    /// An error about a field.
    pub(crate) fn wrong(&self, field: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Field { path: self.path.clone(), field: field.into(), problem: problem.into() }
    }

    /// A whole number within `range`.
    pub(crate) fn size(
        &self,
        field: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64().and_then(|v| usize::try_from(v).ok()).filter(|v| range.contains(v)) {
            Some(v) => Ok(Some(v)),
            None => {
                let (from, to) = range.into_inner();
                Err(self.wrong(field, format!("must be a whole number between {from} and {to}, not {value}")))
            }
        }
    }

    /// A finite number above 0.
    pub(crate) fn positive(&self, field: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_f64().filter(|v| v.is_finite() && *v > 0.0) {
            Some(v) => Ok(Some(v)),
            None => Err(self.wrong(field, format!("must be a number above 0, not {value}"))),
        }
    }

    /// `true` or `false`; absent is `false`.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, ModelError> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(v)) => Ok(*v),
            Some(value) => Err(self.wrong(field, format!("must be true or false, not {value}"))),
        }
    }

    /// A string.
    pub(crate) fn text(&self, field: &str) -> Result<Option<&str>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(v)) => Ok(Some(v)),
            Some(value) => Err(self.wrong(field, format!("must be a string, not {value}"))),
        }
    }

    /// The value, or an error that the field is missing.
    pub(crate) fn required<T>(&self, field: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.wrong(field, "is missing"))
    }
}
