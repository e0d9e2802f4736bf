//! What a device was last measured to do, as whoever measured it wrote it down.

use rusqlite::{Connection, OptionalExtension, Result, named_params};
use serde_json::Value;
use types::id;

pub(crate) const CREATE: &str = "
CREATE TABLE calibration (
    device      TEXT PRIMARY KEY,
    measured_at TEXT NOT NULL,
    json        TEXT NOT NULL CHECK (json_valid(json))
) STRICT;
";

/// The last measurement of a device.
pub(crate) fn get(db: &Connection, device: &str) -> Result<Option<Value>> {
    let read = |row: &rusqlite::Row<'_>| super::from_json(row, "json");
    db.query_row("SELECT json FROM calibration WHERE device = ?1", [device], read).optional()
}

/// Keeps a measurement in place of the one before.
pub(crate) fn put(db: &Connection, device: &str, measured: &Value) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO calibration VALUES (:device, :measured_at, :json)",
        named_params! {
            ":device": device, ":measured_at": id::now_rfc3339(), ":json": super::to_json(measured)?,
        },
    )?;
    Ok(())
}
