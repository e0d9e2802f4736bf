//! How an engine is started. A cluster's job queue would be a second implementation: its client is a child process with
//! the same standard streams.

use std::{
    collections::HashMap,
    env::consts::EXE_SUFFIX,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hardware::{Card, Choice, NoCard, VISIBLE_VARIABLE};
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

    /// The same, but one that computes on the processor, wherever others do.
    ///
    /// # Errors
    /// As [`launch`](Self::launch).
    fn launch_on_processor(&self, args: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
        self.launch(args, stderr)
    }

    /// Where an engine that is started now computes. May take seconds the first time.
    fn computes_on(&self) -> ComputesOn {
        ComputesOn::NoEngine
    }

    /// Where engines that are started from now on compute, if they can.
    fn choose(&self, _choice: Choice) {}
}

/// Where an engine computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComputesOn {
    /// On this card.
    Card(Card),
    /// On the processor, which was chosen.
    Processor,
    /// On the processor, since no card can be computed on, or not the one that was chosen.
    NoCard(String),
    /// On the processor: there is no engine for cards.
    NoEngine,
}

/// Starts engines on this machine: the one for cards where it stands beside the command, there is a card for it and it can compute; else
/// the command itself, which computes on the processor.
#[derive(Debug, Clone)]
pub struct Local {
    program: OsString,
    card: Option<Arc<CardEngine>>,
}

/// Finds the card that a choice comes to.
type Look = dyn Fn(&Choice) -> Result<Option<Card>, NoCard> + Send + Sync;

/// The engine for cards.
struct CardEngine {
    program: PathBuf,
    look: Box<Look>,
    choice: Mutex<Choice>,
    /// Why it cannot compute on a card, by UUID, once that was asked.
    answers: Mutex<HashMap<String, Result<(), String>>>,
}

impl fmt::Debug for CardEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardEngine").field("program", &self.program).finish_non_exhaustive()
    }
}

/// How long the engine for cards may take to say whether it can compute. A card that was switched off takes seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// How far apart looks are whether it has.
const LOOKS: Duration = Duration::from_millis(20);

/// What CUDA numbers cards by: as NVML does.
const ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");

impl CardEngine {
    fn computes_on(&self) -> ComputesOn {
        // What a panic leaves behind is a choice that was made or an answer that was given.
        let choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (self.look)(&choice) {
            Err(why) => ComputesOn::NoCard(why.to_string()),
            Ok(None) => ComputesOn::Processor,
            Ok(Some(card)) => match self.answer(&card) {
                Ok(()) => ComputesOn::Card(card),
                Err(why) => ComputesOn::NoCard(why),
            },
        }
    }

    /// Whether it can compute on a card, which is asked once; a reason where it cannot.
    fn answer(&self, card: &Card) -> Result<(), String> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.entry(card.uuid.clone()).or_insert_with(|| self.ask(card)).clone()
    }

    fn ask(&self, card: &Card) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.program.display());
        let mut command = std::process::Command::new(&self.program);
        command.env(VISIBLE_VARIABLE, &card.uuid).env(ORDER.0, ORDER.1);
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

    /// The same, but the engine for cards at `card` where that can compute on what `look` finds.
    pub fn with_card(
        program: impl Into<OsString>,
        card: impl Into<PathBuf>,
        look: impl Fn(&Choice) -> Result<Option<Card>, NoCard> + Send + Sync + 'static,
    ) -> Self {
        let card = CardEngine {
            program: card.into(),
            look: Box::new(look),
            choice: Mutex::default(),
            answers: Mutex::default(),
        };
        Self { program: program.into(), card: Some(Arc::new(card)) }
    }

    /// The program that [`ENGINE_VARIABLE`] names, or else the command `modelforge` beside this program, which may be
    /// this program itself, and `cuda/modelforge-engine-cuda` beside it or in the data folder `home`.
    pub fn from_env(home: &Path) -> Result<Self, ApiError> {
        if let Some(program) = std::env::var_os(ENGINE_VARIABLE).filter(|value| !value.is_empty()) {
            return Ok(Self::new(program));
        }
        let this = std::env::current_exe()
            .map_err(|e| ApiError::internal(format!("this program does not know its own path: {e}")))?;
        let command = this.with_file_name(format!("modelforge{EXE_SUFFIX}"));
        let engine = format!("cuda/modelforge-engine-cuda{EXE_SUFFIX}");
        let mut cards = [this.with_file_name(&engine), home.join(&engine)].into_iter();
        let program = if command.is_file() { command } else { this };
        Ok(match cards.find(|card| card.is_file()) {
            Some(card) => Self::with_card(program, card, hardware::card),
            None => Self::new(program),
        })
    }
}

impl Launcher for Local {
    fn launch(&self, args: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
        let engine = self.card.as_ref().map(|engine| (engine, engine.computes_on()));
        let mut command = match &engine {
            Some((engine, ComputesOn::Card(card))) => {
                let mut command = Command::new(&engine.program);
                command.env(VISIBLE_VARIABLE, &card.uuid).env(ORDER.0, ORDER.1);
                command
            }
            _ => Command::new(&self.program),
        };
        if let Some((_, ComputesOn::NoCard(why))) = &engine {
            command.env(NOT_ON_CARD, why);
        }
        start(command, args, stderr)
    }

    fn launch_on_processor(&self, args: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
        start(Command::new(&self.program), args, stderr)
    }

    fn computes_on(&self) -> ComputesOn {
        self.card.as_ref().map_or(ComputesOn::NoEngine, |engine| engine.computes_on())
    }

    fn choose(&self, choice: Choice) {
        if let Some(engine) = &self.card {
            *engine.choice.lock().unwrap_or_else(PoisonError::into_inner) = choice;
        }
    }
}

/// Starts a program as engine.
fn start(mut command: Command, args: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
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

    fn card(uuid: &str) -> Card {
        Card { uuid: uuid.into(), ..Card::default() }
    }

    #[tokio::test]
    async fn the_engine_for_cards_is_started_where_it_can_compute_and_else_the_other_is_told_why() {
        let folder = tempfile::tempdir().unwrap();
        let processor = program(folder.path(), "processor", "echo processor: $MODELFORGE_NOT_ON_CARD");
        let found = |_: &Choice| Ok(Some(card("GPU-1")));
        for (check, want) in [
            ("exit 0", "card\n"),
            ("echo the driver is too old >&2; exit 1", "processor: the driver is too old\n"),
            ("exit 127", "processor: "),
        ] {
            let text = format!("if [ \"$2\" = check ]; then {check}; fi; echo card");
            let card = program(folder.path(), "card", &text);
            let told = started(&Local::with_card(&processor, &card, found)).await;
            assert!(told.starts_with(want), "{check}: {told}");
        }
        let gone = started(&Local::with_card(&processor, folder.path().join("gone"), found)).await;
        assert!(gone.contains("gone"), "what cannot be started is named: {gone}");
        let none = Local::with_card(&processor, folder.path().join("gone"), |_| Err(NoCard::NoDriver));
        assert_eq!(started(&none).await, "processor: there is no NVIDIA driver\n", "the engine is not asked");
        assert_eq!(none.computes_on(), ComputesOn::NoCard("there is no NVIDIA driver".into()));
        assert_eq!(
            started(&Local::new(&processor)).await,
            "processor:\n",
            "without an engine nothing is told"
        );
        assert_eq!(Local::new(&processor).computes_on(), ComputesOn::NoEngine);
    }

    #[tokio::test]
    async fn engines_see_the_chosen_card_alone_and_each_card_is_checked_once() {
        let folder = tempfile::tempdir().unwrap();
        let processor = program(folder.path(), "processor", "echo processor: $MODELFORGE_NOT_ON_CARD");
        let checks = folder.path().join("checks");
        let text = format!(
            "if [ \"$2\" = check ]; then echo $CUDA_VISIBLE_DEVICES >> '{}'; exit 0; fi; echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER",
            checks.display()
        );
        let engine = program(folder.path(), "card", &text);
        let local = Local::with_card(&processor, &engine, |choice| match choice {
            Choice::Automatic => Ok(Some(card("GPU-free"))),
            Choice::Processor => Ok(None),
            Choice::Card(uuid) => Ok(Some(card(uuid))),
        });
        assert_eq!(started(&local).await, "GPU-free PCI_BUS_ID\n");
        local.choose(Choice::of("GPU-mine"));
        assert_eq!(started(&local.clone()).await, "GPU-mine PCI_BUS_ID\n");
        let measured = local.launch_on_processor(&[OsStr::new("calibrate")], Stdio::null()).unwrap();
        assert_eq!(measured.wait_with_output().await.unwrap().stdout, b"processor:\n", "whatever was chosen");
        local.choose(Choice::of("cpu"));
        assert_eq!(started(&local).await, "processor:\n", "what was chosen needs no reason");
        assert_eq!(local.computes_on(), ComputesOn::Processor);
        local.choose(Choice::of("auto"));
        assert_eq!(local.computes_on(), ComputesOn::Card(card("GPU-free")));
        assert_eq!(std::fs::read_to_string(checks).unwrap(), "GPU-free\nGPU-mine\n");
    }
}
