//! ModelForge's faces: the command `modelforge`, and the commands of the window behind the feature `desktop`.

mod cli;
#[cfg(feature = "desktop")]
pub mod desktop;

use std::{ffi::OsString, process::ExitCode};

/// Runs the program. As `modelforge engine …` it is the worker that the app starts, else the command line.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if_eq(&OsString::from("engine")).is_some() {
        return engine::main(args);
    }
    cli::main()
}
