//! The engine for NVIDIA cards: takes what `modelforge` takes as engine.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Started as the command is: `engine train <job folder>`.
    let mut args = std::env::args_os().skip(1).peekable();
    args.next_if(|first| first == "engine");
    engine::main(args)
}
