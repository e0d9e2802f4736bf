//! Following a run to its end: as events for programs, as a bar in a terminal, as a few lines in a log.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use api::ActiveRun;
use indicatif::{ProgressBar, ProgressStyle};
use types::{EventLine, Phase, StepStats, TrainEvent};

use super::{
    interrupt::Interrupts,
    say,
    terminal::{clock, small, thousands},
};

/// In a log, a line is written about this often over a run.
const LINES_A_RUN: u64 = 20;

/// How a run that was followed ended.
#[derive(Debug)]
pub enum Ending {
    /// The model is complete.
    Completed {
        /// Final values by metric name.
        metrics: BTreeMap<String, f64>,
    },
    /// It failed.
    Failed(String),
    /// It was stopped, and can be resumed.
    Stopped {
        /// The last step done.
        step: u64,
        /// Where it goes on from.
        checkpoint: Option<PathBuf>,
    },
    /// It paused by itself, and can be resumed once that is put right.
    Halted {
        /// Why.
        reason: String,
        /// The step it goes on from.
        step: u64,
    },
    /// It was killed.
    Killed,
}

/// What was seen of a run on the way.
#[derive(Debug, Default)]
pub struct Tally {
    /// The last step.
    pub last: Option<StepStats>,
    /// Tokens computed.
    pub tokens: u64,
    /// Time of the steps that were seen.
    pub step_ms: f64,
}

/// Shows a run's events to whoever follows it.
pub trait View {
    /// The next event.
    fn show(&mut self, line: &EventLine) -> io::Result<()>;
    /// A word of the program itself.
    fn say(&mut self, text: &str);
}

/// Shows a run until it is over. The first Ctrl-C asks it to stop, the second kills it.
pub async fn follow(
    run: &mut ActiveRun,
    view: &mut dyn View,
    interrupts: &mut Interrupts,
) -> anyhow::Result<(Ending, Tally)> {
    let mut tally = Tally::default();
    let mut ending = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            line = run.next() => {
                let Some(line) = line? else { break };
                view.show(&line)?;
                match line.event {
                    TrainEvent::Step(stats) => tally.add(stats),
                    TrainEvent::Stopped { step, checkpoint } => ending = Some(Ending::Stopped { step, checkpoint }),
                    TrainEvent::Halted { reason, step, .. } => ending = Some(Ending::Halted { reason, step }),
                    TrainEvent::Finished { result, metrics } if result.success => {
                        ending = Some(Ending::Completed { metrics });
                    }
                    TrainEvent::Finished { result, .. } => {
                        ending = Some(Ending::Failed(result.error.unwrap_or(result.message)));
                    }
                    _ => {}
                }
            }
            () = interrupts.next() => {
                if stopping {
                    run.kill().await?;
                    return Ok((Ending::Killed, tally));
                }
                stopping = true;
                view.say("Stopping after this step and keeping a checkpoint. Ctrl-C again ends it at once.");
                run.stop()?;
            }
        }
    }
    match ending {
        Some(ending) => Ok((ending, tally)),
        None => anyhow::bail!("the run ended without saying how"),
    }
}

impl Tally {
    fn add(&mut self, stats: StepStats) {
        self.tokens += stats.tokens;
        self.step_ms += stats.step_ms;
        self.last = Some(stats);
    }

    /// Tokens a second, over the steps that were seen.
    pub fn tokens_per_second(&self) -> f64 {
        if self.step_ms > 0.0 { self.tokens as f64 / (self.step_ms / 1e3) } else { 0.0 }
    }
}

/// One JSON object a line on standard output, and nothing else there.
pub struct JsonLines;

impl View for JsonLines {
    fn show(&mut self, line: &EventLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&text)?;
        out.flush()
    }

    fn say(&mut self, text: &str) {
        say(text);
    }
}

/// A bar on standard error, or lines now and then where that is no terminal.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    tally: Tally,
    shown: u64,
}

impl Progress {
    /// Nothing is shown before the first event.
    pub fn new() -> Self {
        let plain = !io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, plain, tally: Tally::default(), shown: 0 }
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        if self.plain { say(text) } else { self.bar.suspend(|| say(text)) }
    }

    fn step(&mut self, stats: &StepStats) {
        self.tally.add(stats.clone());
        let left = stats.total_steps.saturating_sub(stats.step) as f64;
        // Over all steps so far: rows differ in length, so the last step tells little.
        let mean_ms = stats.elapsed_ms as f64 / stats.step.max(1) as f64;
        let speed = thousands(self.tally.tokens_per_second() as u64);
        let text =
            format!("loss {}  {speed} tokens/s  ETA {}", small(stats.loss), clock(left * mean_ms / 1e3));
        if self.plain {
            let every = (stats.total_steps / LINES_A_RUN).max(1);
            if stats.step.is_multiple_of(every) || stats.step == stats.total_steps {
                say(format_args!("step {}/{}  {text}", stats.step, stats.total_steps));
            }
            return;
        }
        if self.shown == 0 {
            self.bar.set_length(stats.total_steps);
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len}  {msg}") {
                self.bar.set_style(style.progress_chars("━╸─"));
            }
        }
        self.shown = stats.step;
        self.bar.set_position(stats.step);
        self.bar.set_message(text);
    }
}

impl View for Progress {
    fn show(&mut self, line: &EventLine) -> io::Result<()> {
        match &line.event {
            TrainEvent::Started { resumed_from: Some(step), .. } => {
                self.line(&format!("Going on after step {step}."))
            }
            TrainEvent::Prepared {
                train_rows, eval_rows, truncated_rows, skipped_rows, total_steps, ..
            } => {
                let mut text = format!("{} rows to train on", thousands(*train_rows));
                for (n, what) in [
                    (*eval_rows, "to measure on"),
                    (*truncated_rows, "cut to fit"),
                    (*skipped_rows, "left out"),
                ] {
                    if n > 0 {
                        text.push_str(&format!(", {} {what}", thousands(n)));
                    }
                }
                self.line(&format!("{text}; {} steps", thousands(*total_steps)));
            }
            TrainEvent::Loaded { architecture, parameters, trainable_parameters, dtype, device } => {
                let (all, tuned) = (thousands(*parameters), thousands(*trainable_parameters));
                self.line(&format!("{architecture}, {all} parameters in {dtype} on {device}"));
                self.line(&format!("{tuned} parameters are trained"));
            }
            TrainEvent::Phase { phase } if self.plain => say(phase_name(*phase)),
            TrainEvent::Phase { phase } if self.shown == 0 => self.bar.set_message(phase_name(*phase)),
            TrainEvent::Step(stats) => self.step(stats),
            TrainEvent::Eval { step, metrics, answered_rows } => {
                let mut values: Vec<String> =
                    metrics.iter().map(|(name, value)| format!("{name} {}", small(*value))).collect();
                values.extend(answered_rows.map(|rows| format!("({rows} rows answered)")));
                let when = if *step == 0 { "base model".to_owned() } else { format!("step {step}") };
                self.line(&format!("{when}: {}", values.join("  ")));
            }
            TrainEvent::Warning { message } => self.line(&format!("warning: {message}")),
            TrainEvent::OutOfMemory { fallback } => {
                let (rows, times) =
                    (fallback.per_device_train_batch_size, fallback.gradient_accumulation_steps);
                let checkpointing =
                    if fallback.gradient_checkpointing { ", with gradient checkpointing" } else { "" };
                let place = if fallback.on_processor { ", on the processor" } else { "" };
                self.line(&format!(
                    "warning: memory ran out. Going on with {rows} rows at a time, {times} times a step{checkpointing}{place}."
                ));
            }
            TrainEvent::Stopped { .. } | TrainEvent::Halted { .. } | TrainEvent::Finished { .. } => {
                self.bar.finish_and_clear();
            }
            TrainEvent::Started { .. }
            | TrainEvent::Phase { .. }
            | TrainEvent::Download(_)
            | TrainEvent::Checkpoint { .. }
            | TrainEvent::Sample { .. }
            | TrainEvent::Memory { .. } => {}
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.line(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Downloading => "Downloading the model",
        Phase::PreparingData => "Preparing the data",
        Phase::LoadingModel => "Loading the model",
        Phase::RewardModel => "Training the reward model",
        Phase::Reference => "Measuring the base model",
        Phase::Training => "Training",
        Phase::Evaluating => "Measuring",
        Phase::Saving => "Saving the model",
    }
}
