//! One file a table: its migration, its row, its reads and writes.

pub mod calibration;
pub mod conversations;
pub(crate) mod current_run;
pub mod datasets;
pub mod models;
pub mod runs;
pub mod session;
pub mod settings;

use rusqlite::{Error, Result, Row, types::Type};
use serde::{Serialize, de::DeserializeOwned};

/// The statements that bring layout N to N + 1. A row is never changed once it has been released.
pub(crate) const MIGRATIONS: &[&str] = &[
    models::CREATE,
    runs::CREATE,
    session::CREATE,
    settings::CREATE,
    current_run::CREATE,
    conversations::CREATE,
    datasets::CREATE,
    calibration::CREATE,
];

/// The tables that no folder can bring back.
pub(crate) const ONLY_HERE: &[&str] =
    &["session", "settings", "current_run", "conversations", "datasets", "calibration"];

/// A column that holds JSON.
fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T> {
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    serde_json::from_str(&text).map_err(|e| Error::FromSqlConversionFailure(index, Type::Text, Box::new(e)))
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::ToSqlConversionFailure(Box::new(e)))
}

/// SQLite counts with a sign.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
