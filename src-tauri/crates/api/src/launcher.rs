//! How an engine is started. A cluster's job queue would be a second implementation: its client is a child process with
//! the same standard streams.

use std::{
    env::consts::EXE_SUFFIX,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};
use types::{ApiError, engine::NOT_ON_CARD};

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

/// Starts engines on this machine: the one for cards where it stands beside the command, a driver answers and it can compute; else
/// the command itself, which computes on the processor.
#[derive(Debug, Clone)]
pub struct Local {
    program: OsString,
    /// The engine for cards, and why it cannot compute, once that was asked.
    card: Option<Arc<Card>>,
}

#[derive(Debug)]
struct Card {
    program: PathBuf,
    answer: OnceLock<Result<(), String>>,
}

/// How long the engine for cards may take to say whether it can compute. A card that was switched off takes seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// How far apart looks are whether it has.
const LOOKS: Duration = Duration::from_millis(20);

impl Card {
    /// Whether it can compute, which is asked once; a reason where it cannot.
    fn answer(&self) -> Result<(), String> {
        self.answer.get_or_init(|| self.ask()).clone()
    }

    fn ask(&self) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.program.display());
        let mut command = std::process::Command::new(&self.program);
        command.args(["engine", "check"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let begin = Instant::now();
        while child.try_wait().map_err(failed)?.is_none() {
            if begin.elapsed() > ANSWER {
                // It may be stuck in the driver: nobody waits for it any longer.
                let _ = child.kill();
                return Err(format!("{} does not answer", self.program.display()));
            }
            std::thread::sleep(LOOKS);
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        match told.trim() {
            "" => Err(format!("{} ended with {}", self.program.display(), output.status)),
            told => Err(told.lines().next().unwrap_or(told).to_owned()),
        }
    }
}

impl Local {
    /// Starts this program as engine.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), card: None }
    }

    /// The same, but the engine for cards at `card` where that can compute.
    pub fn with_card(program: impl Into<OsString>, card: impl Into<PathBuf>) -> Self {
        let card = Card { program: card.into(), answer: OnceLock::new() };
        Self { program: program.into(), card: Some(Arc::new(card)) }
    }

    /// The program that [`ENGINE_VARIABLE`] names, or else the command `modelforge` beside this program, which may be
    /// this program itself, and `cuda/modelforge-engine-cuda` beside it where a driver answers.
    pub fn from_env() -> Result<Self, ApiError> {
        if let Some(program) = std::env::var_os(ENGINE_VARIABLE).filter(|value| !value.is_empty()) {
            return Ok(Self::new(program));
        }
        let this = std::env::current_exe()
            .map_err(|e| ApiError::internal(format!("this program does not know its own path: {e}")))?;
        let command = this.with_file_name(format!("modelforge{EXE_SUFFIX}"));
        let card = this.with_file_name(format!("cuda/modelforge-engine-cuda{EXE_SUFFIX}"));
        let program = if command.is_file() { command } else { this };
        if card.is_file() && hardware::answers_for_cuda() {
            return Ok(Self::with_card(program, card));
        }
        Ok(Self::new(program))
    }
}

impl Launcher for Local {
    fn launch(&self, args: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
        let answer = self.card.as_ref().map(|card| card.answer().map(|()| card.program.as_os_str()));
        let mut command = match &answer {
            Some(Ok(card)) => Command::new(card),
            _ => Command::new(&self.program),
        };
        if let Some(Err(why)) = &answer {
            command.env(NOT_ON_CARD, why);
        }
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

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(folder: &std::path::Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        types::files::write(&path, format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn started(local: &Local) -> String {
        let child = local.launch(&[OsStr::new("chat")], Stdio::null()).unwrap();
        String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap()
    }

    #[tokio::test]
    async fn the_engine_for_cards_is_started_where_it_can_compute_and_else_the_other_is_told_why() {
        let folder = tempfile::tempdir().unwrap();
        let processor = program(folder.path(), "processor", "echo processor: $MODELFORGE_NOT_ON_CARD");
        for (check, want) in [
            ("exit 0", "card\n"),
            ("echo the driver is too old >&2; exit 1", "processor: the driver is too old\n"),
            ("exit 127", "processor: "),
        ] {
            let text = format!("if [ \"$2\" = check ]; then {check}; fi; echo card");
            let card = program(folder.path(), "card", &text);
            let told = started(&Local::with_card(&processor, &card)).await;
            assert!(told.starts_with(want), "{check}: {told}");
        }
        let gone = started(&Local::with_card(&processor, folder.path().join("gone"))).await;
        assert!(gone.contains("gone"), "what cannot be started is named: {gone}");
        assert_eq!(started(&Local::new(&processor)).await, "processor:\n", "without a card nothing is told");
    }
}
