//! The worker program: trains a job folder or answers a chat, one JSON object a line on its standard streams.
//!
//! It is started by the app as a process of its own, so that running out of memory or being killed never touches the
//! app. It needs nothing but its folders and its standard streams, and opens no connection.

mod card;
mod chat;
mod error;
mod event_log;
mod inputs;
mod job;
mod publish;

use std::{ffi::OsString, process::ExitCode};

pub use error::EngineError;

/// Runs an engine: `train <job folder>` or `chat`. The first argument is the sub-command.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.iter().map(|a| a.to_str()).collect::<Vec<_>>().as_slice() {
        [Some("train"), _] => job::main(args[1].as_ref()),
        [Some("chat")] => chat::main(),
        _ => {
            complain("usage: modelforge engine train <job folder> | modelforge engine chat");
            ExitCode::from(2)
        }
    }
}

/// A line for `engine.log`, which is where the app sends an engine's standard error.
#[expect(clippy::print_stderr, reason = "an engine's standard error is its log")]
fn complain(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
