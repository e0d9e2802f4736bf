//! The run whose progress the app's status tells: one row, or none.

use rusqlite::{Connection, OptionalExtension, Result};

pub(crate) const CREATE: &str = "
CREATE TABLE current_run (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    job_id TEXT NOT NULL
) STRICT;
";

/// The run, if one is set.
pub(crate) fn read(db: &Connection) -> Result<Option<String>> {
    db.query_row("SELECT job_id FROM current_run", [], |row| row.get(0)).optional()
}

/// Sets the run, or none.
pub(crate) fn write(db: &Connection, job_id: Option<&str>) -> Result<()> {
    match job_id {
        Some(job_id) => db.execute("INSERT OR REPLACE INTO current_run VALUES (1, ?1)", [job_id])?,
        None => db.execute("DELETE FROM current_run", [])?,
    };
    Ok(())
}

/// Takes this run out, where it is the one that is set.
pub(crate) fn remove(db: &Connection, job_id: &str) -> Result<()> {
    db.execute("DELETE FROM current_run WHERE job_id = ?1", [job_id])?;
    Ok(())
}
