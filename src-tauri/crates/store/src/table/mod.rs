//! One file a table: its migration, its row, its reads and writes.

pub mod models;
pub mod runs;
pub mod session;

/// The statements that bring layout N to N + 1. A row is never changed once it has been released.
pub(crate) const MIGRATIONS: &[&str] = &[models::CREATE, runs::CREATE, session::CREATE];
