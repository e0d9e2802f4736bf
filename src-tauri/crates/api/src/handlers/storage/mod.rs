//! What the app takes on disk.

pub mod usage;
