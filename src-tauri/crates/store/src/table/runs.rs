//! The index of runs. How far a run is stands in its event log, never here.

use rusqlite::{Connection, Result, Row, named_params};
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) const CREATE: &str = "
CREATE TABLE runs (
    job_id     TEXT PRIMARY KEY,
    model_id   TEXT NOT NULL,
    name       TEXT NOT NULL,
    base_model TEXT NOT NULL,
    dataset    TEXT NOT NULL,
    task       TEXT NOT NULL,
    strategy   TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_time ON runs (created_at);
";

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RunRow {
    /// `train_YYYYMMDD_HHMMSS`.
    pub job_id: String,
    /// The model it makes.
    pub model_id: String,
    /// The name the model gets.
    pub name: String,
    /// What is tuned, as the run named it.
    pub base_model: String,
    /// What it is tuned on, as the run named it.
    pub dataset: String,
    /// The task's JSON spelling.
    pub task: String,
    /// The strategy's JSON spelling.
    pub strategy: String,
    /// RFC 3339 UTC.
    pub created_at: String,
}

/// All rows, the newest first.
pub(crate) fn all(db: &Connection) -> Result<Vec<RunRow>> {
    db.prepare("SELECT * FROM runs ORDER BY created_at DESC, job_id DESC")?.query_map([], read)?.collect()
}

/// Adds a row, or replaces the one with its id.
pub(crate) fn put(db: &Connection, row: &RunRow) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO runs VALUES (:job_id, :model_id, :name, :base_model, :dataset, :task, :strategy,
         :created_at)",
        named_params! {
            ":job_id": row.job_id, ":model_id": row.model_id, ":name": row.name, ":base_model": row.base_model,
            ":dataset": row.dataset, ":task": row.task, ":strategy": row.strategy, ":created_at": row.created_at,
        },
    )?;
    Ok(())
}

/// Takes a row out, if it is there.
pub(crate) fn remove(db: &Connection, job_id: &str) -> Result<()> {
    db.execute("DELETE FROM runs WHERE job_id = ?1", [job_id])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<RunRow> {
    Ok(RunRow {
        job_id: row.get("job_id")?,
        model_id: row.get("model_id")?,
        name: row.get("name")?,
        base_model: row.get("base_model")?,
        dataset: row.get("dataset")?,
        task: row.get("task")?,
        strategy: row.get("strategy")?,
        created_at: row.get("created_at")?,
    })
}
