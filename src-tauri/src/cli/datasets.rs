//! `modelforge datasets`: what is in a dataset, what is wrong with it, and what the model would see of it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;
use data::Tokenizer;
use store::{BaseModel, STARTER};
use types::{
    Strategy, Task,
    dataset::{DatasetReport, PreviewRow},
};

use super::{
    say,
    terminal::{bold, colours, dim, entry, green, thousands},
};

/// Check or preview a dataset, list the samples
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the datasets that ship with the app
    List,
    /// Read a whole dataset and tell every bad line; the exit code is 1 when there are any
    Check {
        /// The dataset file, or sample:<name>
        dataset: String,
        /// What it is for; left out, the first task that the rows' fields fit
        #[arg(long)]
        task: Option<Task>,
        /// How it is to be trained on
        #[arg(long)]
        strategy: Option<Strategy>,
        /// The most errors to print
        #[arg(long, default_value_t = 100, value_name = "N")]
        errors: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show rows exactly as a model sees them, with the tokens that are trained marked
    Preview {
        /// The dataset file, or sample:<name>
        dataset: String,
        /// What it is for; left out, the first task that the rows' fields fit
        #[arg(long)]
        task: Option<Task>,
        /// The model whose tokenizer and chat template are used
        #[arg(long, default_value = STARTER)]
        model: String,
        /// How many rows
        #[arg(long, default_value_t = 3, value_name = "N")]
        rows: usize,
        /// Cut rows to this many tokens
        #[arg(long, default_value_t = 2048, value_name = "N")]
        max_seq_length: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does what the sub-command says.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let api = super::open()?;
    let mut out = io::stdout().lock();
    match args.action {
        Action::List => {
            for sample in api.resources().samples()? {
                writeln!(out, "sample:{:20} {:29} {}", sample.name, sample.task.name(), sample.title)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Check { dataset, task, strategy, errors, json } => {
            let (report, task) = api.check_dataset(&dataset, task, strategy, errors).await?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
            } else {
                print_report(&mut out, &report, task)?;
            }
            Ok(if report.error_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Preview { dataset, task, model, rows, max_seq_length, json } => {
            let task = match task {
                Some(task) => task,
                None => api.check_dataset(&dataset, None, None, 1).await?.1,
            };
            let path = api.dataset_path(&dataset)?;
            let tokenizer = Tokenizer::load(&BaseModel::find(&model, api.resources())?.dir)?;
            let rows = data::preview(&path, task, &tokenizer, max_seq_length, rows)?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
            } else {
                for row in &rows {
                    print_row(&mut out, row)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print_report(out: &mut impl Write, report: &DatasetReport, task: Task) -> io::Result<()> {
    let bad = report.error_count;
    writeln!(out, "{}", bold(report.path.display()))?;
    writeln!(out, "{}", entry("format", spelling(&report.format)))?;
    if let Some(form) = report.form {
        writeln!(out, "{}", entry("rows are", form_name(form)))?;
    }
    writeln!(out, "{}", entry("columns", report.columns.join(", ")))?;
    writeln!(out, "{}", entry("task", task))?;
    writeln!(out, "{}", entry("size", format_args!("{} bytes", thousands(report.bytes))))?;
    writeln!(out, "{}", entry("rows", thousands(report.rows)))?;
    writeln!(out, "{}", entry("usable", thousands(report.usable_rows)))?;
    if bad == 0 {
        return writeln!(out, "{}", green("Every row can be trained on."));
    }
    for error in &report.errors {
        writeln!(out, "{error}")?;
    }
    let rows: std::collections::HashSet<u64> = report.errors.iter().map(|e| e.row).collect();
    if bad > rows.len() as u64 {
        writeln!(out, "… and {} more bad rows", thousands(bad - rows.len() as u64))?;
    }
    say(format_args!(
        "{} of {} rows are bad. Mend them, or train with --skip-bad-rows.",
        thousands(bad),
        thousands(report.rows)
    ));
    Ok(())
}

fn print_row(out: &mut impl Write, row: &PreviewRow) -> io::Result<()> {
    let trained = row.tokens.iter().filter(|token| token.trained).count();
    writeln!(
        out,
        "{}",
        bold(format_args!("Row {}: {} tokens, {trained} trained", row.row, row.tokens.len()))
    )?;
    let mut text = String::new();
    for run in row.tokens.chunk_by(|a, b| a.trained == b.trained) {
        let piece: String = run.iter().map(|token| token.text.as_str()).collect();
        match run.first().is_some_and(|token| token.trained) {
            true if colours() => text.push_str(&green(piece)),
            true => text.push_str(&format!("[[{piece}]]")),
            false => text.push_str(&dim(piece)),
        }
    }
    writeln!(out, "{text}")?;
    if row.cut_tokens > 0 {
        writeln!(out, "({} tokens are cut off)", row.cut_tokens)?;
    }
    writeln!(out)
}

/// A choice as it is spelt in JSON.
fn spelling(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn form_name(form: types::dataset::RowForm) -> String {
    format!("{} ({})", spelling(&form).replace('_', " "), data::required_fields(form).join(", "))
}
