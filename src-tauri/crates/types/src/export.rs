//! What an export engine (`engine export <request>`) is asked and what it tells, one JSON object a line.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExportDtype, ExportFormat};

/// A finished model that is to become one that other programs load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// Folder of the base model.
    pub base_dir: PathBuf,
    /// Folder of the adapter.
    pub adapter_dir: PathBuf,
    /// The name people see.
    pub name: String,
    /// What is made.
    pub format: ExportFormat,
    /// How weights are stored; that of the base where it is left open.
    pub dtype: Option<ExportDtype>,
    /// An empty folder that is filled. The engine removes it where it fails; giving it its final name is left to whoever asks.
    pub folder: PathBuf,
    /// Free space on the disk of `folder` in bytes, where it is known.
    pub free_bytes: Option<u64>,
}

/// A line of an export engine, which ends with `written` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportLine {
    /// Weights have been written.
    Progress {
        /// Bytes so far.
        done: u64,
        /// Bytes of all weights.
        total: u64,
    },
    /// The folder is complete.
    Written {
        /// Size of its files in bytes.
        bytes: u64,
        /// See [`ExportItem::Done`].
        checked: bool,
    },
    /// The end, with what is wrong and how to mend it.
    Error(String),
}

/// How far an export is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExportItem {
    /// Weights have been written. Once all are, the export is checked, which takes as long as loading the model.
    Progress {
        /// Bytes so far.
        done: u64,
        /// Bytes of all weights.
        total: u64,
    },
    /// The export is complete.
    Done {
        /// Its folder.
        path: String,
        /// Size of its files in bytes.
        bytes: u64,
        /// Whether the check found what it should. Safetensors: the exported model, loaded from its files, finds each of the 16
        /// tokens likeliest with which base model and adapter answer a prompt, or as likely but for the rounding of its dtype.
        /// GGUF: every tensor, read back from the file, is the merged one but for the rounding of its dtype.
        checked: bool,
    },
}
