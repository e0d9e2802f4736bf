//! The index of finished models.

use rusqlite::{Connection, OptionalExtension, Result, Row, named_params};
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) const CREATE: &str = "
CREATE TABLE models (
    model_id   TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    base_model TEXT NOT NULL,
    task       TEXT NOT NULL,
    strategy   TEXT NOT NULL,
    created_at TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    path       TEXT NOT NULL
) STRICT;
CREATE INDEX models_by_time ON models (created_at);
";

/// One finished model, in the documented shape of the models list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelRow {
    /// `model_YYYYMMDD_HHMMSS`.
    pub model_id: String,
    /// The name people see.
    pub name: String,
    /// What it was tuned from, as the run named it.
    pub base_model: String,
    /// The task's JSON spelling.
    pub task: String,
    /// The strategy's JSON spelling.
    pub strategy: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// What the folder takes on disk, in 10^6 bytes, one decimal.
    pub size_mb: f64,
    /// The model's folder.
    pub path: String,
}

/// All rows, the newest first.
pub(crate) fn all(db: &Connection) -> Result<Vec<ModelRow>> {
    db.prepare("SELECT * FROM models ORDER BY created_at DESC, model_id DESC")?.query_map([], read)?.collect()
}

/// The row of one model.
pub(crate) fn get(db: &Connection, model_id: &str) -> Result<Option<ModelRow>> {
    db.query_row("SELECT * FROM models WHERE model_id = ?1", [model_id], read).optional()
}

/// Adds a row, or replaces the one with its id.
pub(crate) fn put(db: &Connection, row: &ModelRow, bytes: u64) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO models VALUES (:model_id, :name, :base_model, :task, :strategy, :created_at,
         :bytes, :path)",
        named_params! {
            ":model_id": row.model_id, ":name": row.name, ":base_model": row.base_model, ":task": row.task,
            ":strategy": row.strategy, ":created_at": row.created_at,
            ":bytes": super::signed(bytes), ":path": row.path,
        },
    )?;
    Ok(())
}

/// Takes a row out, if it is there.
pub(crate) fn remove(db: &Connection, model_id: &str) -> Result<()> {
    db.execute("DELETE FROM models WHERE model_id = ?1", [model_id])?;
    Ok(())
}

/// Bytes in units of 10^6 with one decimal.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}

fn read(row: &Row<'_>) -> Result<ModelRow> {
    let bytes: i64 = row.get("bytes")?;
    Ok(ModelRow {
        model_id: row.get("model_id")?,
        name: row.get("name")?,
        base_model: row.get("base_model")?,
        task: row.get("task")?,
        strategy: row.get("strategy")?,
        created_at: row.get("created_at")?,
        size_mb: megabytes(bytes.unsigned_abs()),
        path: row.get("path")?,
    })
}
