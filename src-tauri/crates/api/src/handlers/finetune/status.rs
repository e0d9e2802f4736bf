//! `finetune_status`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use store::{Run, RunStatus, StoreError};
use types::{ApiError, Phase};

pub use super::session::Input;
use crate::Api;

/// How far the run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Whether a run is under way, and how the last one ended.
    pub status: Status,
    /// Per cent of its steps, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub progress: u8,
    /// A sentence for the person.
    pub message: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// The documented states. A run that was paused is `idle`: nothing computes, and it can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No run is under way.
    Idle,
    /// A run is under way.
    Running,
    /// The last run made its model.
    Completed,
    /// The last run failed.
    Error,
}

/// Tells of the run under way, whoever started it, else of the last one since the status was reset.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let active = api.store().active_run()?;
    let Some(job_id) = active.or(api.store().current_run()?) else { return Ok(idle()) };
    match api.store().run(&job_id).map(|run| api.as_followed(run)) {
        // How it ends is of no interest; it is over once it is gone.
        Ok(run) if api.discards(&job_id) => Ok(Output {
            status: Status::Running,
            message: "Throwing the run away".into(),
            error: None,
            ..tell(&run)
        }),
        Ok(run) => {
            let mut told = tell(&run);
            if run.status == RunStatus::Interrupted {
                told.error = Some(api.why_it_ended(&job_id).await);
            }
            Ok(told)
        }
        // Its folder was deleted.
        Err(StoreError::UnknownRun(_)) => Ok(idle()),
        Err(error) => Err(error.into()),
    }
}

fn idle() -> Output {
    Output { status: Status::Idle, progress: 0, message: "No training in progress".into(), error: None }
}

fn tell(run: &Run) -> Output {
    let total = run.total_steps.unwrap_or(0);
    let progress = (run.step * 100).checked_div(total).map_or(0, |percent| percent.min(100) as u8);
    let (status, progress, message, error) = match &run.status {
        // 100 is for a model that is complete.
        RunStatus::Running => (Status::Running, progress.min(99), at_work(run, total), None),
        RunStatus::Completed => (Status::Completed, 100, "Training completed successfully".to_owned(), None),
        RunStatus::Failed { error } => {
            (Status::Error, progress, "Training failed".into(), Some(error.clone()))
        }
        RunStatus::Interrupted => (Status::Error, progress, "Training failed".into(), None),
        RunStatus::Queued => (Status::Idle, progress, "Training waits in the queue".into(), None),
        RunStatus::Stopped if run.halted.is_some() => {
            let message = format!("Training paused at step {}/{total}", run.step);
            (Status::Error, progress, message, run.halted.clone())
        }
        RunStatus::Stopped => {
            (Status::Idle, progress, format!("Training paused at step {}/{total}", run.step), None)
        }
    };
    Output { status, progress, message, error }
}

fn at_work(run: &Run, total: u64) -> String {
    // Before the first epoch is over, epochs done are below 1: the first one is under way.
    let epoch = run.epoch.map_or(1, |done| (done.ceil() as u32).clamp(1, run.num_train_epochs.max(1)));
    let step = format!("epoch {epoch}/{} - Step {}/{total}", run.num_train_epochs, run.step);
    match run.phase {
        None => "Starting the training engine".into(),
        Some(Phase::Downloading) => {
            let (done, total) = run.download.as_ref().map_or((0, 0), |d| (d.bytes, d.total_bytes));
            let mb = |bytes: u64| bytes / 1_000_000;
            format!("Downloading the model: {} of {} MB", mb(done), mb(total))
        }
        Some(Phase::PreparingData) => "Preparing the dataset".into(),
        Some(Phase::LoadingModel) => "Loading the model".into(),
        Some(Phase::RewardModel) => "Training the reward model".into(),
        Some(Phase::Reference) => "Measuring the base model on the pairs".into(),
        Some(Phase::Training) => format!("Training {step}"),
        Some(Phase::Evaluating) => format!("Evaluating {step}"),
        Some(Phase::Saving) => "Saving the model".into(),
    }
}
