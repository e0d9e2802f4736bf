//! `modelforge models`: the finished models.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::bail;
use clap::Subcommand;
use store::table::models::ModelRow;

use super::{
    say,
    terminal::{bold, entry, small},
};

/// List models, look at one, delete one
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List all models, the newest first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one model
    Show {
        /// The model
        #[arg(value_name = "MODEL ID")]
        model_id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a model and its files
    Delete {
        /// The model
        #[arg(value_name = "MODEL ID")]
        model_id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Does what the sub-command says; lists without one.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let api = super::open()?;
    let mut out = io::stdout().lock();
    match args.action.unwrap_or(Action::List { json: false }) {
        Action::List { json } => {
            let models = api.store().models()?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&models)?)?;
            } else {
                list(&mut out, &models)?;
            }
        }
        Action::Show { model_id, json } => {
            let model = api.model(&model_id)?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&model)?)?;
            } else {
                show(&mut out, &model)?;
            }
        }
        Action::Delete { model_id, yes } => {
            let model = api.store().model(&model_id)?.row;
            if !yes && !confirmed(&model)? {
                say("Nothing was deleted.");
                return Ok(ExitCode::FAILURE);
            }
            api.store().delete_model(&model_id)?;
            writeln!(out, "Model {model_id} deleted successfully")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(out: &mut impl Write, models: &[ModelRow]) -> io::Result<()> {
    if models.is_empty() {
        return writeln!(out, "No models yet. Make one with `modelforge train`, or see `modelforge demo`.");
    }
    writeln!(out, "{}", bold(format_args!("{:24} {:>8}  {:29} {}", "MODEL ID", "SIZE", "TASK", "NAME")))?;
    for model in models {
        let ModelRow { model_id, name, task, size_mb, .. } = model;
        writeln!(out, "{model_id:24} {size_mb:>5.1} MB  {task:29} {name}")?;
    }
    Ok(())
}

fn show(out: &mut impl Write, model: &api::ModelDetails) -> io::Result<()> {
    writeln!(out, "{}", bold(&model.name))?;
    for (name, value) in [
        ("model", &model.model_id),
        ("base model", &model.base_model),
        ("task", &model.task),
        ("strategy", &model.strategy),
        ("created", &model.created_at),
        ("folder", &model.path),
    ] {
        writeln!(out, "{}", entry(name, value))?;
    }
    writeln!(out, "{}", entry("size", format_args!("{} MB", model.size_mb)))?;
    for (name, value) in &model.metrics {
        writeln!(out, "{}", entry(&name.replace('_', " "), small(*value)))?;
    }
    writeln!(out, "\nIts settings:  modelforge models show {} --json", model.model_id)?;
    writeln!(out, "Talk to it:    modelforge chat {}", model.model_id)
}

fn confirmed(model: &ModelRow) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("deleting asks first, and there is nobody to ask; use --yes");
    }
    write!(io::stderr(), "Delete {} ({}, {} MB)? [y/N] ", model.model_id, model.name, model.size_mb)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
