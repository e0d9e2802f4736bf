//! What the person chose last: one row.

use rusqlite::{Connection, OptionalExtension, Result, named_params};
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) const CREATE: &str = "
CREATE TABLE session (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    task            TEXT,
    selected_model  TEXT,
    is_custom_model INTEGER NOT NULL
) STRICT;
";

/// The choices that the app opens with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Session {
    /// The task's JSON spelling.
    pub task: Option<String>,
    /// A model name as runs take it.
    pub selected_model: Option<String>,
    /// Whether the model was typed in rather than picked from the recommendations.
    pub is_custom_model: bool,
}

/// The choices kept last; nothing chosen on a fresh database.
pub(crate) fn read(db: &Connection) -> Result<Session> {
    let session = db
        .query_row("SELECT task, selected_model, is_custom_model FROM session", [], |row| {
            Ok(Session { task: row.get(0)?, selected_model: row.get(1)?, is_custom_model: row.get(2)? })
        })
        .optional()?;
    Ok(session.unwrap_or_default())
}

/// Keeps the choices in place of the ones before.
pub(crate) fn write(db: &Connection, session: &Session) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO session VALUES (1, :task, :selected_model, :is_custom_model)",
        named_params! {
            ":task": session.task, ":selected_model": session.selected_model,
            ":is_custom_model": session.is_custom_model,
        },
    )?;
    Ok(())
}
