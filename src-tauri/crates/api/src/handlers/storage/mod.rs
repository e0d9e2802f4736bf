//! What the app takes on disk.

pub mod free;
pub mod usage;
