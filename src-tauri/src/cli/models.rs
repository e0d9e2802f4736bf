//! `modelforge models`: the finished models.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{PathBuf, absolute},
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use api::{Api, Export};
use clap::{Subcommand, builder::PossibleValuesParser};
use indicatif::{ProgressBar, ProgressStyle};
use store::table::models::ModelRow;
use types::{ExportDtype, ExportFormat, export::ExportItem};

use super::{
    INTERRUPTED,
    interrupt::Interrupts,
    say,
    terminal::{bold, entry, small},
};

/// List models, look at one, export one, delete one
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
    /// Make a model that other programs load
    Export {
        /// The model
        #[arg(value_name = "MODEL ID")]
        model_id: String,
        /// safetensors for transformers and the like, gguf for llama.cpp and the programs built on it
        #[arg(long, value_parser = PossibleValuesParser::new(ExportFormat::NAMES))]
        format: String,
        /// How weights are stored; as those of the base model, if not said
        #[arg(long, value_parser = PossibleValuesParser::new(ExportDtype::NAMES))]
        dtype: Option<String>,
        /// Where the export gets its folder; exports in the data folder, if not said
        #[arg(long)]
        folder: Option<PathBuf>,
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
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let api = super::open()?;
    let mut out = io::stdout();
    match args.action.unwrap_or(Action::List { json: false }) {
        Action::Export { model_id, format, dtype, folder } => {
            let export = Export {
                model_id,
                format: format.parse()?,
                dtype: dtype.map(|dtype| dtype.parse()).transpose()?,
                folder: folder.map(absolute).transpose()?,
            };
            return self::export(Arc::new(api), export).await;
        }
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

/// Shows how far it is and prints the folder. Ctrl-C ends it, and nothing of it stays.
async fn export(api: Arc<Api>, export: Export) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let mut items = api.export(export).await?;
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}  {msg}")?);
    loop {
        let item = tokio::select! {
            item = items.recv() => item,
            () = interrupts.next() => {
                bar.finish_and_clear();
                items.close();
                while items.recv().await.is_some() {}
                say("Nothing was exported.");
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        let Some(item) = item else { bail!("the export ended without a word") };
        match serde_json::from_value(item?.data)? {
            ExportItem::Progress { done, total } => {
                bar.set_length(total);
                bar.set_position(done);
                if done == total {
                    bar.set_message("checking");
                }
            }
            ExportItem::Done { path, bytes, checked } => {
                bar.finish_and_clear();
                let found = if checked {
                    "checked: it is what was trained"
                } else {
                    "but the check found a difference to what was trained"
                };
                say(format_args!("{:.1} MB, {found}", bytes as f64 / 1e6));
                writeln!(io::stdout(), "{path}")?;
                return Ok(if checked { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
        }
    }
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
