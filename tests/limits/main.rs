//! Runs that come to the limits of the machine: too little memory, too little disk.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "what cannot be set up ends the test"
)]

mod disk;
#[path = "../engine/support.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod engine;
mod full_home;
mod memory;
#[path = "../rest/support.rs"]
mod server;
mod small_disk;

/// Says that something could not be tested here.
#[expect(clippy::print_stderr, reason = "a test that is skipped must say so")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}
