//! The worker program: trains a job folder, tries one out, answers a chat, exports a model or measures the machine, one
//! JSON object a line on its standard output.
//!
//! It is started by the app as a process of its own, so that running out of memory or being killed never touches the
//! app. It needs nothing but its folders and its standard streams, and opens no connection.

mod answers;
mod calibrate;
mod card;
mod chat;
mod device;
mod error;
mod event_log;
mod export;
mod inputs;
mod job;
mod load;
mod memory;
mod orders;
mod probe;
mod publish;
mod rlhf;

use std::{
    ffi::OsString,
    io::{self, Write},
};

pub use error::EngineError;
use types::engine::exit;

/// That of every program that can be an engine, which behaves as the system's own until it is one.
#[global_allocator]
static ALLOCATOR: kernels::Allocator = kernels::Allocator;

/// Runs an engine: `train <job folder>`, `probe <job folder>`, `export <request>`, `chat`, `calibrate`, or `check`, which tells
/// whether it can compute here. The first argument is the sub-command. Gives the exit code, one of [`exit`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    kernels::exit_when_out_of_memory(exit::OUT_OF_MEMORY);
    memory::yield_first();
    let args: Vec<OsString> = args.into_iter().collect();
    match args.iter().map(|a| a.to_str()).collect::<Vec<_>>().as_slice() {
        [Some("train"), _] => job::main(args[1].as_ref()),
        [Some("probe"), _] => probe::main(args[1].as_ref()),
        [Some("export"), Some(request)] => export::main(request),
        [Some("chat")] => chat::main(),
        [Some("calibrate")] => calibrate::main(),
        [Some("check")] => check(),
        _ => {
            complain(
                "usage: modelforge engine train <job folder> | probe <job folder> | export <request> | chat | calibrate | check",
            );
            exit::USAGE
        }
    }
}

/// Whether there is what this engine computes on; if not, the reason goes to standard error.
fn check() -> u8 {
    match device::check() {
        Ok(()) => exit::SUCCESS,
        Err(error) => {
            complain(error);
            exit::FAILURE
        }
    }
}

/// A line for `engine.log`, which is where the app sends an engine's standard error.
#[expect(clippy::print_stderr, reason = "an engine's standard error is its log")]
fn complain(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// One line of JSON on standard output. A process that cannot be heard any more has nothing left to do but end.
fn tell(line: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush())
}
