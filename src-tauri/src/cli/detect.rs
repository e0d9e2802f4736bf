//! `modelforge detect`: what this machine has.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use api::{Api, Detected};
use types::{Profile, Task};

use super::terminal::{bold, entry};

/// Show what this machine has and which model to start with
#[derive(clap::Args)]
pub struct Args {
    /// What the model is to do: text-generation, summarization or extractive-question-answering
    #[arg(long, default_value_t = Task::TextGeneration)]
    task: Task,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks and tells.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let api = super::open()?;
    let found = api.detect(args.task).await?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        table(&mut out, &api, &found)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The machine as a table.
pub fn table(out: &mut impl Write, api: &Api, found: &Detected) -> io::Result<()> {
    writeln!(out, "{}", bold("This machine"))?;
    let gpu = match found.gpu_total_memory_gb {
        0.0 => found.gpu_name.clone(),
        memory => format!("{}, {memory} GB", found.gpu_name),
    };
    let class = match found.profile {
        Profile::LowEnd => "no GPU, or a small one",
        Profile::MidRange => "one consumer GPU",
        Profile::HighEnd => "a large GPU and enough memory",
    };
    writeln!(out, "{}", entry("GPU", gpu))?;
    writeln!(out, "{}", entry("processor", format_args!("{} cores", found.cpu_cores)))?;
    writeln!(out, "{}", entry("memory", format_args!("{} GB", found.ram_total_gb)))?;
    writeln!(out, "{}", entry("free disk", format_args!("{} GB", found.available_diskspace_gb)))?;
    writeln!(out, "{}", entry("profile", format_args!("{} ({class})", found.profile)))?;
    writeln!(out, "{}", entry("computes on", "the processor; this version does not use GPUs"))?;
    writeln!(out, "{}", entry("model", &found.model_recommendation))?;
    writeln!(out, "{}", entry("data folder", api.store().home().path().display()))
}
