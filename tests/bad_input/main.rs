//! Bad input and bad luck: what the real server answers, what it leaves as it was, and that the next request works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "what cannot be set up ends the test"
)]

mod database;
mod fields;
mod models;
mod paths;
mod processes;
mod raw;
mod runs;
#[path = "../rest/support.rs"]
mod support;
