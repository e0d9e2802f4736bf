//! `modelforge runs`: every run and how it stands.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;
use store::{Run, RunStatus};
use types::engine::Control;

use super::{
    interrupt::Interrupts,
    say,
    terminal::{bold, entry, small},
    train,
};

/// List runs, look at one, pause, finish or resume one
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List all runs, the newest first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one run
    Show {
        /// The run
        #[arg(value_name = "JOB ID")]
        job_id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Pause a run after its current step; a checkpoint is kept
    Pause {
        /// The run
        #[arg(value_name = "JOB ID")]
        job_id: String,
    },
    /// End a run after its current step and keep the model as it is by then
    Finish {
        /// The run
        #[arg(value_name = "JOB ID")]
        job_id: String,
    },
    /// Go on with a run that was stopped, was interrupted or failed
    Resume {
        /// The run
        #[arg(value_name = "JOB ID")]
        job_id: String,
        /// Print the run's events as JSON, one object a line, and nothing else
        #[arg(long)]
        json: bool,
    },
}

/// Does what the sub-command says; lists without one.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let api = super::open()?;
    let mut out = io::stdout().lock();
    match args.action.unwrap_or(Action::List { json: false }) {
        Action::List { json } => {
            let runs = api.store().runs()?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&runs)?)?;
            } else {
                list(&mut out, &runs)?;
            }
        }
        Action::Show { job_id, json } => {
            let run = api.store().run(&job_id)?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&run)?)?;
            } else {
                show(&mut out, &run, &api.store().home().run(&job_id)?.path().display())?;
            }
        }
        Action::Pause { job_id } => {
            api.order(&job_id, Control::Pause)?;
            say(format_args!(
                "{job_id} pauses after this step. Go on with:\n  modelforge train --resume {job_id}"
            ));
        }
        Action::Finish { job_id } => {
            api.order(&job_id, Control::Finish)?;
            say(format_args!("{job_id} ends after this step; its model is measured and kept."));
        }
        Action::Resume { job_id, json } => {
            drop(out);
            let mut interrupts = Interrupts::listen()?;
            let run = api.resume(&job_id).await?;
            return train::finish(&api, run, json, &mut interrupts).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(out: &mut impl Write, runs: &[Run]) -> io::Result<()> {
    if runs.is_empty() {
        return writeln!(out, "No runs yet. Start one with `modelforge train`, or see `modelforge demo`.");
    }
    writeln!(out, "{}", bold(format_args!("{:24} {:12} {:>11}  {}", "JOB ID", "STATUS", "STEP", "NAME")))?;
    for run in runs {
        let (id, name) = (&run.row.job_id, &run.row.name);
        writeln!(out, "{id:24} {:12} {:>11}  {name}", status_name(&run.status), steps(run))?;
    }
    Ok(())
}

fn show(out: &mut impl Write, run: &Run, folder: &dyn std::fmt::Display) -> io::Result<()> {
    writeln!(out, "{}", bold(&run.row.name))?;
    for (name, value) in [
        ("run", &run.row.job_id),
        ("model", &run.row.model_id),
        ("base model", &run.row.base_model),
        ("dataset", &run.row.dataset),
        ("task", &run.row.task),
        ("strategy", &run.row.strategy),
        ("started", &run.row.created_at),
    ] {
        writeln!(out, "{}", entry(name, value))?;
    }
    writeln!(out, "{}", entry("folder", folder))?;
    writeln!(out, "{}", entry("status", status_name(&run.status)))?;
    writeln!(out, "{}", entry("step", steps(run)))?;
    if let Some(loss) = run.loss {
        writeln!(out, "{}", entry("loss", small(loss)))?;
    }
    for (name, value) in &run.metrics {
        writeln!(out, "{}", entry(&name.replace('_', " "), small(*value)))?;
    }
    if let RunStatus::Failed { error } = &run.status {
        writeln!(out, "{}", entry("error", error))?;
    }
    if run.status.can_resume() {
        writeln!(out, "\nGo on with:\n  modelforge train --resume {}", run.row.job_id)?;
    }
    Ok(())
}

fn steps(run: &Run) -> String {
    run.total_steps.map_or_else(|| "-".to_owned(), |total| format!("{}/{total}", run.step))
}

fn status_name(status: &RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Queued => "waiting",
        RunStatus::Stopped => "stopped",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Completed => "completed",
        RunStatus::Failed { .. } => "failed",
    }
}
