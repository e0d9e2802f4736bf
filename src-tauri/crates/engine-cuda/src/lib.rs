//! The engine for NVIDIA cards as a library, which `modelforge-engine-cuda` loads where there is a driver.
#![cfg(feature = "cuda")]

/// Runs this process as engine, by its own arguments: `engine train <job folder>`, as the command is started. Gives the exit code.
#[allow(unsafe_code, reason = "the name is how the program finds it; no other library of the process has it")]
#[unsafe(no_mangle)]
pub extern "C" fn modelforge_engine() -> u8 {
    let mut args = std::env::args_os().skip(1).peekable();
    args.next_if(|first| first == "engine");
    engine::run(args)
}
