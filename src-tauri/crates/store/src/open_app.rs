//! Which app has the data folder open. Two may: all that they share is under locks or in the database. The second one is
//! told of the first, since who opened both may not know.

use std::{
    fs::{self, TryLockError},
    sync::PoisonError,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::files;

use crate::{Store, StoreError};

/// The largest note that is read.
const MAX_BYTES: u64 = 16 << 10;

/// An app that has a data folder open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenApp {
    /// Its process id.
    pub pid: u32,
    /// Where it serves its pages; null for a window.
    pub address: Option<String>,
    /// Since when, RFC 3339 UTC.
    pub since: String,
}

impl Store {
    /// Takes the data folder for the app `me`, as long as this lives, or tells of the app that has it. Asked again once
    /// that one is gone, it takes it.
    ///
    /// # Errors
    /// When the files that tell it cannot be made.
    pub fn claim(&self, me: &OpenApp) -> Result<Option<OpenApp>, StoreError> {
        let mut held = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(None);
        }
        // The lock tells whether, the note beside it who: where locks are mandatory, a locked file cannot be read.
        let path = self.home().path().join("app.lock");
        let note = self.home().path().join("app.json");
        let file = files::open_lock(&path).map_err(StoreError::io("make", &path))?;
        match file.try_lock() {
            Ok(()) => {
                files::write_json(&note, me).map_err(StoreError::io("write", &note))?;
                *held = Some(file);
                Ok(None)
            }
            Err(TryLockError::WouldBlock) => {
                let is_small = fs::metadata(&note).is_ok_and(|found| found.len() <= MAX_BYTES);
                let text = if is_small { fs::read(&note).unwrap_or_default() } else { Vec::new() };
                // It has taken the lock and is about to write who it is.
                let unknown = || OpenApp { pid: 0, address: None, since: types::id::now_rfc3339() };
                Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| unknown())))
            }
            Err(TryLockError::Error(source)) => Err(StoreError::Io { doing: "lock", path, source }),
        }
    }
}
