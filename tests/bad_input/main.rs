//! Bad input and bad luck: what the real server answers, what it leaves as it was, and that the next request works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "what cannot be set up ends the test"
)]

mod database;
mod disk;
mod fields;
// Engines are held and killed by signals.
#[cfg(unix)]
mod models;
mod paths;
#[cfg(unix)]
mod processes;
mod raw;
#[cfg(unix)]
mod runs;
#[path = "../rest/support.rs"]
mod support;
