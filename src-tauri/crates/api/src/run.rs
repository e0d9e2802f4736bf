//! A run whose engine was started from here: its events as they come and why it ended. And orders to a run of
//! any process.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use store::{RunStatus, Store};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};
use types::{
    ApiError, EventLine, JobFolder, RunSpec, TrainEvent,
    engine::{Control, PROCESSOR, exit},
};

use crate::{Api, Launcher, fallback::MemoryWatch};

/// What an engine says on its way out, at most.
const TAIL: u64 = 4 << 10;

/// How often a run that was told to pause is looked at until its engine is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A run and the engine that works on it. Dropping it leaves the engine at work.
pub struct ActiveRun {
    spec: RunSpec,
    store: Arc<Store>,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Read while waiting for the start, given out first.
    first: Option<EventLine>,
    job: JobFolder,
    log: PathBuf,
    launcher: Arc<dyn Launcher>,
    pub(crate) memory: MemoryWatch,
    /// Held until the engine has spoken and so holds its job's lock.
    gate: Option<File>,
    /// Where this engine's part of the log begins.
    log_start: u64,
    /// Whether the model is computed on a card.
    on_card: bool,
    over: bool,
}

impl ActiveRun {
    /// Starts an engine on a job folder that is ready.
    pub(crate) fn launch(
        store: Arc<Store>,
        launcher: &Arc<dyn Launcher>,
        spec: RunSpec,
    ) -> Result<Self, ApiError> {
        let job = store.home().run(&spec.job_id)?;
        let log = job.path().join("engine.log");
        let Started { child, lines, log_start } = begin(&job, &log, launcher.as_ref())?;
        Ok(Self {
            spec,
            store,
            child,
            lines,
            first: None,
            job,
            log,
            launcher: Arc::clone(launcher),
            memory: MemoryWatch::default(),
            gate: None,
            log_start,
            on_card: false,
            over: false,
        })
    }

    /// Starts another engine on the run, whose own has ended. `gate` is held until that one holds the job's lock.
    pub(crate) fn launch_again(&mut self, gate: File) -> Result<(), ApiError> {
        let Started { child, lines, log_start } = begin(&self.job, &self.log, self.launcher.as_ref())?;
        (self.child, self.lines, self.log_start, self.on_card) = (child, lines, log_start, false);
        self.gate = Some(gate);
        Ok(())
    }

    /// The run is over though its engine did not say so.
    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    /// Whether the engine computes on a card.
    pub(crate) fn on_card(&self) -> bool {
        self.on_card
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn job(&self) -> &JobFolder {
        &self.job
    }

    /// Waits until the engine has spoken and so holds its job's lock; then another start may look for an active run.
    pub(crate) async fn started(mut self, gate: File) -> Result<Self, ApiError> {
        self.gate = Some(gate);
        self.first = self.next().await?;
        self.gate = None;
        Ok(self)
    }

    /// The run's id.
    pub fn job_id(&self) -> &str {
        &self.spec.job_id
    }

    /// What the run was asked to do, defaults filled in.
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// The next event; `None` once the run is over and the engine has ended. Safe to cancel.
    ///
    /// # Errors
    /// 500 with the reason when the engine ends without saying how the run ended.
    pub async fn next(&mut self) -> Result<Option<EventLine>, ApiError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        while let Some(line) = self.lines.next_line().await.map_err(ApiError::internal)? {
            // An engine of another version may say more than this one understands.
            let Ok(line) = serde_json::from_str::<EventLine>(&line) else { continue };
            self.gate = None;
            self.memory.look();
            self.note(&line.event);
            return Ok(Some(line));
        }
        let status = self.child.wait().await.map_err(ApiError::internal)?;
        self.gate = None;
        if self.over {
            return Ok(None);
        }
        match self.fall_back(status).await? {
            Some(line) => Ok(Some(line)),
            None => Err(self.death(status)),
        }
    }

    /// Asks the engine to finish the step, write a checkpoint and end. Its last event is still to be read.
    ///
    /// # Errors
    /// 500 when the order cannot be written.
    pub fn stop(&self) -> Result<(), ApiError> {
        give(Control::Pause, &self.job)
    }

    /// Ends the engine at once. What it did since the last checkpoint is lost.
    pub async fn kill(&mut self) -> Result<(), ApiError> {
        self.child.kill().await.map_err(ApiError::internal)
    }

    fn note(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Loaded { device, .. } => self.on_card = device != PROCESSOR,
            TrainEvent::Stopped { .. } | TrainEvent::Halted { .. } => self.over = true,
            TrainEvent::Finished { result, .. } => {
                self.over = true;
                if result.success {
                    // A model that could not be put into the index now is found by the next listing.
                    self.store.add_model(&self.spec.model_id).ok();
                }
            }
            _ => {}
        }
    }

    fn death(&self, status: ExitStatus) -> ApiError {
        if status.code() == Some(exit::BUSY.into()) {
            return ApiError::bad_request(format!("Training already in progress: {}", self.spec.job_id));
        }
        let said = self.last_words().unwrap_or_default();
        let reason = describe(status);
        ApiError::internal(match said.is_empty() {
            true => format!("the training engine {reason}"),
            false => format!("the training engine {reason}. Its last words:\n{said}"),
        })
    }

    /// What the engine said last, in a line.
    pub(crate) fn reason(&self) -> String {
        let said = self.last_words().unwrap_or_default();
        said.lines().last().unwrap_or("it did not say why").to_owned()
    }

    fn last_words(&self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.log_start.max(length.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

impl Api {
    /// Orders a run that is under way, whichever process started it, to pause or to finish early. It does so after the step
    /// that it is at, and says so in its events.
    ///
    /// # Errors
    /// 404 for an unknown run, 400 for one that is not running, 500 when the order cannot be written.
    pub fn order(&self, job_id: &str, control: Control) -> Result<(), ApiError> {
        // Before the run ends: the next one must not begin in between.
        if control == Control::Pause && self.store.run(job_id)?.status == RunStatus::Running {
            self.hold_queue();
        }
        if self.end_download(job_id) {
            return Ok(());
        }
        if self.store.run(job_id)?.status != RunStatus::Running {
            return Err(ApiError::bad_request(format!("{job_id} is not running")));
        }
        give(control, &self.store.home().run(job_id)?)
    }

    /// Has the run that is under way pause, and waits until its engine is gone. `told` is given the run's id as soon as it
    /// has the order; nothing happens where no run is under way, or where it ends by itself meanwhile.
    ///
    /// # Errors
    /// 500 when the order cannot be written or the data folder cannot be read.
    pub async fn pause_active(&self, told: impl FnOnce(&str)) -> Result<(), ApiError> {
        let Some(job_id) = self.store.active_run()? else { return Ok(()) };
        let is_active = || Ok::<_, ApiError>(self.store.active_run()?.is_some_and(|active| active == job_id));
        match self.order(&job_id, Control::Pause) {
            Err(error) if is_active()? => return Err(error),
            Err(_) => return Ok(()),
            Ok(()) => told(&job_id),
        }
        while is_active()? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

/// An engine that has just been started.
struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log_start: u64,
}

fn begin(job: &JobFolder, log: &Path, launcher: &dyn Launcher) -> Result<Started, ApiError> {
    let failed = |e: io::Error| ApiError::internal(format!("{}: {e}", log.display()));
    // A file instead of a pipe: what the engine says is kept even when this process has ended before it.
    let stderr = File::options().create(true).append(true).open(log).map_err(failed)?;
    // What an engine before this one did not take up was not meant for this one.
    Control::withdraw(job).map_err(|e| ApiError::internal(format!("{}: {e}", job.control().display())))?;
    let log_start = stderr.metadata().map_err(failed)?.len();
    let not_started = |e: io::Error| ApiError::internal(format!("the training engine did not start: {e}"));
    let mut child = launcher
        .launch(&["train".as_ref(), job.path().as_os_str()], Stdio::from(stderr))
        .map_err(not_started)?;
    let Some(output) = child.stdout.take() else {
        return Err(ApiError::internal("the training engine has no standard output"));
    };
    let lines = BufReader::new(output).lines();
    Ok(Started { child, lines, log_start })
}

pub(crate) fn give(control: Control, job: &JobFolder) -> Result<(), ApiError> {
    control.give(job).map_err(|e| ApiError::internal(format!("{}: {e}", job.control().display())))
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let why = match signal {
            9 => " (killed; often because memory ran out)",
            7 => " (a file could not be read or written any more; often because the disk is full)",
            11 | 6 | 4 => " (crashed)",
            15 => " (asked to end)",
            _ => "",
        };
        return format!("was ended by signal {signal}{why}");
    }
    match status.code() {
        Some(code) if code == i32::from(exit::OUT_OF_MEMORY) => "ran out of memory".to_owned(),
        Some(code) if code == i32::from(exit::DISK_FULL) => "found the disk full".to_owned(),
        Some(code) => format!("ended with exit code {code}"),
        None => "ended".to_owned(),
    }
}
