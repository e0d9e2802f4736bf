//! `modelforge train`: a run from settings to a finished model.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use api::{ActiveRun, Api};
use serde_json::Map;
use types::{ApiError, FieldError, Manifest, TrainingConfig, error::Detail};

use super::{
    INTERRUPTED,
    config_file::ConfigFile,
    interrupt::Interrupts,
    progress::{Ending, JsonLines, Progress, Tally, View, follow},
    say,
    setting_flags::{SettingFlags, flag_of},
    terminal::{bold, clock, entry, small, thousands},
};

/// Fine-tune a model
///
/// Settings come from the flags, then from the --config file, then from the defaults. Ctrl-C stops after the current
/// step and keeps a checkpoint; --resume goes on from there. `modelforge runs pause` does the same from elsewhere, and
/// `modelforge runs finish` keeps the model as it is by then. The exit code is 0 once the model is complete, 130 when the
/// run was stopped, and 1 when something went wrong.
#[derive(clap::Args)]
pub struct Args {
    /// Read settings from this JSON or YAML file; flags go before it
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with a run that was stopped, was interrupted or failed
    #[arg(long, value_name = "JOB ID")]
    resume: Option<String>,
    /// Have the run wait for its turn where another one is under way; see `modelforge queue`
    #[arg(long, conflicts_with_all = ["resume", "json"])]
    queue: bool,
    /// Print the run's events as JSON, one object a line, and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

/// Trains or resumes, and tells how it went.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let api = Arc::new(super::open()?);
    let file = args.config.as_deref().map(ConfigFile::read).transpose()?;
    if args.queue {
        let job_id = settled(file, args.settings, async |config| api.queue_training(config).await).await?;
        match api.store().queue()?.place(&job_id) {
            Some(place) => say(format_args!("{job_id} waits at place {place}; see `modelforge queue`.")),
            None => say(format_args!("{job_id} is under way; see `modelforge runs`.")),
        }
        api.handed_over().await;
        return Ok(ExitCode::SUCCESS);
    }
    let run = match &args.resume {
        Some(job_id) => api.resume(job_id).await?,
        None => settled(file, args.settings, async |config| api.start_training(config).await).await?,
    };
    finish(&api, run, args.json, &mut interrupts).await
}

/// Follows a run to its end and says what came out.
pub async fn finish(
    api: &Api,
    mut run: ActiveRun,
    json: bool,
    interrupts: &mut Interrupts,
) -> anyhow::Result<ExitCode> {
    let mut view: Box<dyn View> = if json { Box::new(JsonLines) } else { Box::new(Progress::new()) };
    if !json {
        say(format_args!("Run {}", run.job_id()));
    }
    let (ending, tally) = follow(&mut run, view.as_mut(), interrupts).await?;
    drop(view);
    match ending {
        Ending::Completed { metrics } => {
            if !json {
                summary(api, &run, &tally, &metrics)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Ending::Failed(error) => {
            let folder = api.store().home().run(run.job_id())?;
            bail!("{error}\nThe run's folder is {}", folder.path().display())
        }
        Ending::Halted { ref reason, .. } => bail!("{reason}\n{}", how_to_resume(run.job_id(), &ending)),
        Ending::Stopped { .. } | Ending::Killed => {
            say(how_to_resume(run.job_id(), &ending));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// What to type to go on with a run that Ctrl-C ended.
pub fn how_to_resume(job_id: &str, ending: &Ending) -> String {
    let how = match ending {
        Ending::Stopped { step, checkpoint: Some(_) } => {
            format!("Stopped after step {step}; a checkpoint is kept.")
        }
        Ending::Halted { step: 0, .. } => "Paused before the first checkpoint.".to_owned(),
        Ending::Halted { step, .. } => format!("Paused; the checkpoint after step {step} is kept."),
        Ending::Stopped { .. } => "Stopped before the first step.".to_owned(),
        _ => "Ended at once. What was done since the last checkpoint is lost.".to_owned(),
    };
    format!("{how} Go on with:\n  modelforge train --resume {job_id}")
}

/// Does something with the settings of file and flags. What is wrong with one is told by where it was given.
async fn settled<T>(
    file: Option<ConfigFile>,
    SettingFlags(flags): SettingFlags,
    start: impl AsyncFnOnce(TrainingConfig) -> Result<T, ApiError>,
) -> anyhow::Result<T> {
    let mut request = file.as_ref().map_or_else(Map::new, |file| file.values.clone());
    request.extend(flags.clone());
    let started = match TrainingConfig::from_json(&request) {
        Ok(config) => start(config).await,
        Err(fields) => Err(ApiError::invalid(fields)),
    };
    started.map_err(|error| {
        let place = |field: &FieldError| match (field.field(), &file) {
            (name, Some(file)) if !flags.contains_key(name) => format!("{}: {name}", file.place(name)),
            (name, _) => flag_of(name),
        };
        located(error, place)
    })
}

/// The error with each bad field called by the place where the person wrote it.
fn located(error: ApiError, place: impl Fn(&FieldError) -> String) -> anyhow::Error {
    match error.detail {
        Detail::Fields(fields) => {
            let lines: Vec<String> = fields.iter().map(|f| format!("{}: {}", place(f), f.msg)).collect();
            anyhow::anyhow!("{}", lines.join("\n       "))
        }
        Detail::Text(_) => error.into(),
    }
}

fn summary(api: &Api, run: &ActiveRun, tally: &Tally, metrics: &BTreeMap<String, f64>) -> anyhow::Result<()> {
    let model = api.store().model(&run.spec().model_id)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", bold(format_args!("{} is ready", model.row.name)))?;
    writeln!(out, "{}", entry("model", &model.row.model_id))?;
    if let Some(last) = &tally.last {
        let (steps, time) = (thousands(last.step), clock(last.elapsed_ms as f64 / 1e3));
        let speed = thousands(tally.tokens_per_second() as u64);
        let early = match last.total_steps {
            total if total > last.step => format!(" (finished early, {} were planned)", thousands(total)),
            _ => String::new(),
        };
        writeln!(
            out,
            "{}",
            entry("training", format_args!("{steps} steps in {time}, {speed} tokens/s{early}"))
        )?;
    }
    for (name, value) in metrics {
        let measured = beside_base(&model.manifest, name, *value);
        writeln!(out, "{}", entry(&name.replace('_', " "), measured))?;
    }
    if let Some(step) = model.manifest.best_step {
        writeln!(out, "{}", entry("best", format_args!("the model is that of step {step}")))?;
    }
    if let Some(peak) = model.manifest.peak_memory_bytes {
        writeln!(out, "{}", entry("memory", format_args!("{} MB at most", peak.div_ceil(1_000_000))))?;
    }
    writeln!(out, "{}", entry("size", format_args!("{} MB", model.row.size_mb)))?;
    writeln!(out, "{}", entry("folder", &model.row.path))?;
    writeln!(out, "\nTalk to it:\n  modelforge chat {}", model.row.model_id)?;
    Ok(())
}

/// A metric's value, with the base model's before it where that was measured too.
pub fn beside_base(manifest: &Manifest, name: &str, value: f64) -> String {
    match manifest.base_metrics.get(name) {
        Some(base) => format!("{} (base model {})", small(value), small(*base)),
        None => small(value),
    }
}
