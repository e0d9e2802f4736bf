//! How an engine is started. A cluster's job queue would be a second implementation: its client is a child process with
//! the same standard streams.

use std::{
    env::consts::EXE_SUFFIX,
    ffi::{OsStr, OsString},
    io,
    process::Stdio,
};

use tokio::process::{Child, Command};
use types::ApiError;

/// The environment variable that names another program to start as engine.
pub const ENGINE_VARIABLE: &str = "MODELFORGE_ENGINE";

/// Starts engines.
pub trait Launcher: Send + Sync {
    /// Starts `engine <args>` with standard input and output piped. It outlives the caller unless it is killed.
    ///
    /// # Errors
    /// What the system says when it cannot be started.
    fn launch(&self, args: &[&OsStr], stderr: Stdio) -> io::Result<Child>;
}

/// Starts engines on this machine.
#[derive(Debug, Clone)]
pub struct Local {
    program: OsString,
}

impl Local {
    /// Starts this program as engine.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into() }
    }

    /// The program that [`ENGINE_VARIABLE`] names, or else the command `modelforge` beside this program, which may be
    /// this program itself.
    pub fn from_env() -> Result<Self, ApiError> {
        if let Some(program) = std::env::var_os(ENGINE_VARIABLE).filter(|value| !value.is_empty()) {
            return Ok(Self::new(program));
        }
        let this = std::env::current_exe()
            .map_err(|e| ApiError::internal(format!("this program does not know its own path: {e}")))?;
        let command = this.with_file_name(format!("modelforge{EXE_SUFFIX}"));
        Ok(Self::new(if command.is_file() { command } else { this }))
    }
}

impl Launcher for Local {
    fn launch(&self, args: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("engine").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        // An engine does not speak to the Hub: what could read its environment need not find a token there.
        for name in hub::TOKEN_VARIABLES {
            command.env_remove(name);
        }
        // A Ctrl-C in the terminal reaches the whole process group. Whether it ends the engine is for us to decide.
        #[cfg(unix)]
        command.process_group(0);
        #[cfg(windows)]
        command.creation_flags(0x0000_0200); // CREATE_NEW_PROCESS_GROUP
        command.spawn()
    }
}
