//! The engine for NVIDIA cards: takes what `modelforge` takes as engine.
//!
//! What it computes with is linked to the driver, and so could not even start without one. That is a library beside this program,
//! which starts anywhere and says what is missing.

use std::{env, error::Error, path::Path, process::ExitCode};

use libloading::{Library, library_filename};

/// The library of the driver itself, by its name on each system.
const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// What the library's function is, by the name it has there.
type Engine = extern "C" fn() -> u8;
const ENGINE: &[u8] = b"modelforge_engine";

fn main() -> ExitCode {
    let started = env::current_exe()
        .map_err(|error| format!("this program does not know its own path: {error}"))
        .and_then(|program| start(&program.with_file_name(library_filename("engine_cuda")), DRIVER));
    match started {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// Loads the driver, then the engine, and has it do what this process was started for.
#[allow(unsafe_code)]
fn start(engine: &Path, driver: &str) -> Result<u8, String> {
    // SAFETY: the driver's library is loaded as every program on CUDA does; it does nothing before it is called.
    let loaded = unsafe { Library::new(driver) };
    let _driver =
        loaded.map_err(|error| format!("there is no NVIDIA driver, or it is damaged: {}", reason(&error)))?;
    if !engine.is_file() {
        return Err(format!("{} is missing; install the engine for NVIDIA cards again", engine.display()));
    }
    // SAFETY: the library is ours, and of the same pack as this program.
    let library = unsafe { Library::new(engine) }.map_err(|error| {
        let reason = reason(&error);
        format!("the engine for NVIDIA cards cannot be loaded ({reason}); install it and the driver again")
    })?;
    // SAFETY: the function has this type in every version of the library.
    let run = unsafe { library.get::<Engine>(ENGINE) }
        .map_err(|error| format!("{} is not the engine: {error}", engine.display()))?;
    Ok(run())
}

/// What the system says, which is below what the library says.
fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[expect(clippy::print_stderr, reason = "an engine's standard error is its log")]
fn complain(why: &str) {
    eprintln!("{why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library that every program here has loaded, in place of the driver's.
    const SOME: &str = if cfg!(windows) { "kernel32.dll" } else { "libc.so.6" };

    #[test]
    #[cfg(any(target_os = "linux", windows))]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let engine = folder.path().join("engine");
        let why = start(&engine, "no-such-driver-1").unwrap_err();
        assert!(why.contains("no NVIDIA driver") && why.contains("no-such-driver-1"), "{why}");
        let why = start(&engine, SOME).unwrap_err();
        assert!(why.contains("engine is missing"), "{why}");
        // An empty file is no library.
        let engine = tempfile::NamedTempFile::new().unwrap();
        let why = start(engine.path(), SOME).unwrap_err();
        assert!(why.contains("cannot be loaded"), "{why}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_library_is_not_taken_for_the_engine() {
        let path = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path =
            path.lines().find_map(|line| line.split_whitespace().nth(5).filter(|p| p.contains("libc.so")));
        let why = start(Path::new(path.unwrap()), SOME).unwrap_err();
        assert!(why.contains("is not the engine"), "{why}");
    }
}
