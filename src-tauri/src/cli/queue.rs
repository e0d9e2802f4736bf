//! `modelforge queue`: the runs that wait for their turn.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use api::{Api, Operation};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{interrupt::Interrupts, say, terminal::bold};

/// List, move, take out or work off the runs that wait for their turn
///
/// `modelforge train --queue` puts a run into the queue. Waiting runs begin one after the other while the app, `modelforge
/// serve` or `modelforge queue work` is open.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List the waiting runs, the next one first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Move a run to another place
    Move {
        /// The run
        #[arg(value_name = "JOB ID")]
        job_id: String,
        /// 1 for the next one to begin
        place: usize,
    },
    /// Take a run out; one that has never begun is deleted
    Remove {
        /// The run
        #[arg(value_name = "JOB ID")]
        job_id: String,
    },
    /// Let no waiting run begin by itself
    Hold,
    /// Let them begin again
    Continue,
    /// Begin the waiting runs one after the other, until none is left
    Work,
}

/// Does what the sub-command says; lists without one.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let api = Arc::new(super::open()?);
    let (operation, request) = match args.action.unwrap_or(Action::List { json: false }) {
        Action::List { json } => {
            list(&api, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Action::Work => {
            tokio::select! {
                done = api.work_off_queue() => done?,
                () = interrupts.next() => say("What waits goes on waiting. A run that is under way goes on by itself."),
            }
            return Ok(ExitCode::SUCCESS);
        }
        Action::Move { job_id, place } => ("queue_place", json!({"job_id": job_id, "place": place})),
        Action::Remove { job_id } => ("queue_remove", json!({"job_id": job_id})),
        Action::Hold => ("queue_hold", json!({"held": true})),
        Action::Continue => ("queue_hold", json!({"held": false})),
    };
    if let (Some(operation), Value::Object(request)) = (Operation::find(operation), request) {
        let answer = operation.call(&api, request).await?;
        say(answer.get("message").and_then(Value::as_str).unwrap_or_default());
    }
    api.handed_over().await;
    Ok(ExitCode::SUCCESS)
}

fn list(api: &Api, json: bool) -> anyhow::Result<()> {
    let queue = api.store().queue()?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&queue)?)?;
        return Ok(());
    }
    if queue.runs.is_empty() {
        writeln!(out, "No run waits. `modelforge train --queue` adds one.")?;
        return Ok(());
    }
    writeln!(out, "{}", bold(format_args!("{:>5} {:24} {}", "PLACE", "JOB ID", "NAME")))?;
    for (index, job_id) in queue.runs.iter().enumerate() {
        // One whose description is damaged is told when its turn comes.
        let name = api.store().run(job_id).map_or_else(|_| "?".to_owned(), |run| run.row.name);
        writeln!(out, "{:>5} {job_id:24} {name}", index + 1)?;
    }
    if queue.held {
        writeln!(out, "\nThe queue is held. Let it go on with:\n  modelforge queue continue")?;
    }
    Ok(())
}
