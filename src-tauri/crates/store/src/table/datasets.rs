//! Datasets that the person has used, each with what its last check found. The files stay where they are.

use rusqlite::{Connection, Result, Row, named_params};
use schemars::JsonSchema;
use serde::Serialize;
use types::dataset::FileFormat;

use super::{from_json, signed, to_json};

pub(crate) const CREATE: &str = "
CREATE TABLE datasets (
    path        TEXT NOT NULL,
    task        TEXT NOT NULL,
    name        TEXT NOT NULL,
    format      TEXT NOT NULL CHECK (json_valid(format)),
    rows        INTEGER NOT NULL,
    usable_rows INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    checked_at  TEXT NOT NULL,
    PRIMARY KEY (path, task)
) STRICT;
CREATE INDEX datasets_by_time ON datasets (checked_at);
";

/// A dataset as it was checked for one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DatasetRow {
    /// As runs take it: a path as it was given, or `sample:<name>`.
    pub name: String,
    /// The file, absolute.
    pub path: String,
    /// The task's JSON spelling.
    pub task: String,
    /// How the file is written.
    pub format: FileFormat,
    /// Rows in it, bad ones included.
    pub rows: u64,
    /// Rows that can be trained on.
    pub usable_rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// RFC 3339 UTC.
    pub checked_at: String,
}

/// All rows, the one checked last first.
pub(crate) fn all(db: &Connection) -> Result<Vec<DatasetRow>> {
    db.prepare("SELECT * FROM datasets ORDER BY checked_at DESC, rowid DESC")?.query_map([], read)?.collect()
}

/// Adds a row, or replaces the one with its path and task.
pub(crate) fn put(db: &Connection, row: &DatasetRow) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO datasets VALUES (:path, :task, :name, :format, :rows, :usable_rows, :bytes,
         :checked_at)",
        named_params! {
            ":path": row.path, ":task": row.task, ":name": row.name, ":format": to_json(&row.format)?,
            ":rows": signed(row.rows), ":usable_rows": signed(row.usable_rows), ":bytes": signed(row.bytes),
            ":checked_at": row.checked_at,
        },
    )?;
    Ok(())
}

/// Takes a row out; whether it was there.
pub(crate) fn remove(db: &Connection, path: &str, task: &str) -> Result<bool> {
    Ok(db.execute("DELETE FROM datasets WHERE path = ?1 AND task = ?2", [path, task])? > 0)
}

fn read(row: &Row<'_>) -> Result<DatasetRow> {
    let count = |column: &str| row.get(column).map(i64::unsigned_abs);
    Ok(DatasetRow {
        name: row.get("name")?,
        path: row.get("path")?,
        task: row.get("task")?,
        format: from_json(row, "format")?,
        rows: count("rows")?,
        usable_rows: count("usable_rows")?,
        bytes: count("bytes")?,
        checked_at: row.get("checked_at")?,
    })
}
