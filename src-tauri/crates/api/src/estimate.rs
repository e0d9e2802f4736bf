//! What a run will take: memory and time, from the model's shape, the rows of the dataset and how fast this machine is.

use std::{fs, io::Read, path::Path, process::Stdio};

use data::{PlanOptions, PrepareOptions, Prepared, Tokenizer, plan_epoch};
use hardware::{
    DiskEstimate, Fit, MemoryEstimate, MemoryPlan, ModelShape, Nearest, TimeEstimate, Workload, catalogue,
    estimate_memory, estimate_time, nearest,
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use types::{
    ApiError, Reward, RlAlgorithm, Strategy, TrainingConfig,
    engine::Calibration,
    event::{SAMPLED_ROWS, SAMPLED_TOKENS, SCORED_TOKENS},
};

use crate::{
    Api,
    base::Reached,
    job::Checked,
    room::{disk_of, free_disk, on_processor},
};

/// The largest `config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;
/// The processor's speed is kept by this name, which engines call it by too, a card's by its UUID.
const PROCESSOR: &str = "cpu";

/// What a run is estimated to take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// Memory at its peak.
    pub memory: MemoryEstimate,
    /// Memory in bytes that is free now where the run is computed.
    pub free_memory_bytes: u64,
    /// The name of the card that computes it; null for the processor.
    pub card: Option<String>,
    /// Whether it fits.
    pub fit: Fit,
    /// The settings nearest to these that fit; null where these fit, and where none do.
    pub nearest: Option<Nearest>,
    /// What it needs on the processor; null where it would be computed there anyhow, fits on the card, or does not fit there either.
    pub on_processor: Option<OnProcessor>,
    /// Room on the disk at its most.
    pub disk: DiskEstimate,
    /// Room in bytes that is free where runs are kept; null where the system does not tell.
    pub free_disk_bytes: Option<u64>,
    /// The tokens and steps of the run; null where the model is not on this machine, so that no row can be tokenized.
    pub workload: Option<Workload>,
    /// How long it takes; null where that cannot be said yet: without the model, or while a run is active and this machine
    /// has not been measured before.
    pub time: Option<TimeEstimate>,
    /// Tokens of the longest row; without the model, the longest that the settings allow.
    pub longest_row: u64,
}

/// What a run that is too large for the card needs where the processor computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OnProcessor {
    /// Memory in bytes at its peak.
    pub memory_bytes: u64,
    /// Whether it fits well.
    pub fit: Fit,
}

impl Api {
    /// Estimates a run. Every row of the dataset is tokenized for it.
    ///
    /// # Errors
    /// As for starting the run, but for a run that is active.
    pub(crate) async fn estimate(&self, config: TrainingConfig) -> Result<Estimate, ApiError> {
        let base = self.reach(&config.model_name).await?;
        let checked = self.check_settings(config, base).await?;
        let hardware = self.hardware().await?;
        let places = hardware.free();
        let config = checked.config.clone();
        let shape = shape_of(&checked.base)?;
        let asked = checked.clone();
        let workload = match &checked.base {
            Reached::Here(_) => {
                let shape = shape.clone();
                Some(crate::blocking(move || measure_rows(&checked, &shape)).await??)
            }
            Reached::OnHub { .. } => None,
        };
        let longest = workload.as_ref().map(|rows| rows.longest);
        let mut plan = MemoryPlan::new(&config, &shape, longest).placed(places);
        let (card, free) = (hardware.card.filter(|_| plan.card), places.of(&plan));
        if let Some(rows) = &workload {
            plan.limit_rows(&config, rows.count);
        }
        let memory = estimate_memory(&shape, &plan);
        let workload = workload.map(|rows| rows.workload);
        let device = card.as_ref().map_or(PROCESSOR, |card| &card.uuid);
        let time = match (&workload, self.calibration(device).await?) {
            (Some(work), Some(calibration)) => Some(estimate_time(&shape, &plan, work, &calibration)),
            _ => None,
        };
        let fit = Fit::of(memory.total, free);
        let (nearest, on_processor) = match fit {
            Fit::TooLarge => {
                (nearest(&config, &shape, longest, places), on_processor(&config, &shape, &plan, places))
            }
            Fit::Fits | Fit::Tight => (None, None),
        };
        Ok(Estimate {
            fit,
            nearest,
            on_processor,
            disk: disk_of(&asked, &shape, &plan),
            free_disk_bytes: free_disk(self.store.home()),
            memory,
            free_memory_bytes: free,
            card: card.map(|card| card.name),
            workload,
            time,
            longest_row: plan.longest_row,
        })
    }

    /// How fast this machine computes on a device: measured once, and not while a run would disturb it.
    async fn calibration(&self, device: &str) -> Result<Option<Calibration>, ApiError> {
        let _one_at_a_time = self.calibrating.lock().await;
        let kept = self.store.calibration(device)?;
        let kept: Option<Calibration> = kept.and_then(|kept| serde_json::from_value(kept).ok());
        let on_processor = device == PROCESSOR;
        if let Some(kept) = kept.filter(|kept| (kept.device == PROCESSOR) == on_processor) {
            return Ok(Some(kept));
        }
        if self.store.active_run()?.is_some() {
            return Ok(None);
        }
        let failed = |e: std::io::Error| {
            ApiError::internal(format!("the speed of this machine was not measured: {e}"))
        };
        let calibrate = ["calibrate".as_ref()];
        let started = match on_processor {
            true => self.launcher.launch_on_processor(&calibrate, Stdio::null()),
            false => self.launcher.launch(&calibrate, Stdio::null()),
        };
        let mut child = started.map_err(failed)?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).await.map_err(failed)?;
        }
        child.wait().await.map_err(failed)?;
        let measured: Calibration = serde_json::from_str(&line)
            .map_err(|e| ApiError::internal(format!("the speed of this machine was not measured: {e}")))?;
        // The card may have become unusable meanwhile.
        if (measured.device == PROCESSOR) != on_processor {
            return Ok(None);
        }
        let kept = serde_json::to_value(&measured).map_err(ApiError::internal)?;
        self.store.set_calibration(device, &kept)?;
        Ok(Some(measured))
    }
}

pub(crate) fn shape_of(base: &Reached) -> Result<ModelShape, ApiError> {
    match base {
        Reached::Here(base) => Ok(ModelShape::from_config(&read_config(&base.dir)?)?),
        Reached::OnHub { repo, .. } => {
            catalogue().find(repo).and_then(|model| model.shape.clone()).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "{repo} is not on this machine and its shape is not known: start the run to download it"
                ))
            })
        }
    }
}

fn read_config(dir: &Path) -> Result<serde_json::Value, ApiError> {
    let path = dir.join("config.json");
    let bad = |e: &dyn std::fmt::Display| ApiError::bad_request(format!("{}: {e}", path.display()));
    let mut text = String::new();
    fs::File::open(&path)
        .and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text))
        .map_err(|e| bad(&e))?;
    serde_json::from_str(&text).map_err(|e| bad(&e))
}

/// What a dataset comes to.
pub(crate) struct Rows {
    pub workload: Workload,
    /// Rows to train on.
    pub count: u64,
    /// Tokens of the longest row.
    pub longest: u64,
}

/// Tokenizes the rows as the run will, and counts.
pub(crate) fn measure_rows(checked: &Checked, shape: &ModelShape) -> Result<Rows, ApiError> {
    let bad = |e: data::DataError| ApiError::bad_request(e.to_string());
    let config = &checked.config;
    let folder = tempfile::tempdir().map_err(ApiError::internal)?;
    let spec = checked.spec(String::new(), String::new(), folder.path().to_owned());
    let options = PrepareOptions {
        dataset: &spec.dataset_path,
        eval_dataset: spec.eval_dataset_path.as_deref(),
        task: config.task,
        strategy: config.strategy,
        max_seq_length: config.max_seq_length,
        context_length: shape.context_length as usize,
        length_cap: config.compute_specs.map(|p| hardware::Settings::for_profile(p, false).max_seq_length),
        eval_split: config.eval_split,
        packing: config.packing,
        skip_bad_rows: config.skip_bad_rows,
        seed: config.seed,
        tokens_dir: folder.path(),
    };
    let tokenizer = Tokenizer::load(&spec.base_dir).map_err(bad)?;
    let prepared = data::prepare(&options, &tokenizer, &mut |_| {}).map_err(bad)?;
    Ok(count(config, &prepared))
}

fn count(config: &TrainingConfig, prepared: &Prepared) -> Rows {
    let lengths = |rows: &data::TokenRows| (0..rows.len()).map(|i| rows.length(i) as u64).collect::<Vec<_>>();
    let (train, eval) = (lengths(&prepared.train), lengths(&prepared.eval));
    let rewarded = config.strategy == Strategy::Rlhf;
    // A step that learns from rewards takes up so many prompts.
    let (batch_size, accumulation) = match rewarded {
        true => (config.rollout_batch_size, 1),
        false => (config.per_device_train_batch_size, config.gradient_accumulation_steps),
    };
    let batches = plan_epoch(
        &prepared.train,
        &PlanOptions {
            batch_size: batch_size as usize,
            packing: config.packing && !rewarded,
            max_seq_length: prepared.max_seq_length,
            group_by_length: config.group_by_length,
            seed: config.seed,
            epoch: 0,
        },
    )
    .len() as u64;
    let epoch_steps = batches.div_ceil(accumulation.into()).max(1);
    let planned = epoch_steps.saturating_mul(config.num_train_epochs.into());
    let steps = u64::try_from(config.max_steps).unwrap_or(planned);
    let epochs = steps as f64 / epoch_steps as f64;
    // The base model is measured before the first step.
    let evaluations = if eval.is_empty() { 0 } else { 1 + steps.div_ceil(config.eval_steps.into()) };
    let longest = prepared.stats.longest_row.max(1);
    let trained_share =
        prepared.stats.trained_tokens_per_epoch as f64 / prepared.stats.tokens_per_epoch.max(1) as f64;
    if rewarded {
        let planned = Planned { steps, epochs, evaluations, trained_share };
        return Rows {
            workload: rollouts(config, prepared, &eval, planned),
            count: train.len() as u64,
            longest,
        };
    }
    let mut eval_tokens = eval.iter().sum::<u64>().saturating_mul(evaluations);
    if config.needs_reference() {
        eval_tokens += train.iter().chain(&eval).sum::<u64>();
    }
    let scored = config.scored_answers();
    let most = if scored > 0 { SCORED_TOKENS } else { SAMPLED_TOKENS } as u64;
    let answers = eval.iter().take(scored.max(SAMPLED_ROWS));
    let generated: u64 = answers.map(|&length| of(length, trained_share).min(most)).sum();
    let workload = Workload {
        tokens: of(prepared.stats.tokens_per_epoch, epochs),
        trained_tokens: of(prepared.stats.trained_tokens_per_epoch, epochs),
        eval_tokens,
        eval_trained_tokens: of(eval_tokens, trained_share),
        generated_tokens: generated.saturating_mul(evaluations),
        steps,
    };
    Rows { workload, count: train.len() as u64, longest }
}

fn of(tokens: u64, times: f64) -> u64 {
    (tokens as f64 * times) as u64
}

/// How often a run goes through what.
struct Planned {
    steps: u64,
    epochs: f64,
    evaluations: u64,
    /// Tokens that count among those of a row.
    trained_share: f64,
}

/// The work of a run that learns from rewards, whose answers are taken to be as long as those of the rows. The reward model's
/// training is part of it.
fn rollouts(config: &TrainingConfig, prepared: &Prepared, eval: &[u64], planned: Planned) -> Workload {
    let Planned { steps, epochs, evaluations, trained_share } = planned;
    let pairs = prepared.train.read(0).is_ok_and(|row| row.rejected.is_some());
    // A row of two answers has its prompt twice.
    let single = |tokens: u64| if pairs { tokens / 2 } else { tokens };
    let times = if config.rl_algorithm == RlAlgorithm::Grpo { config.num_generations.into() } else { 1 };
    let answers = of(single(prepared.stats.tokens_per_epoch), epochs) * times;
    let judged = config.reward == Reward::Model;
    // Prompts are read, and answers looked at as the policy, as the base model, and by the reward model.
    let looks = if judged { 4 } else { 3 };
    let first: u64 = eval.iter().take(config.eval_answers as usize).map(|&length| single(length)).sum();
    let rows = prepared.train.len().max(1) as u64;
    let answer =
        of(single(prepared.stats.tokens_per_epoch) / rows, trained_share).min(config.response_length.into());
    // All answers of a rollout go on together, so that weights are read once for a token of each.
    let generated = (steps + evaluations) * answer.max(1);
    let looked_at = (answers + first * evaluations) * looks;
    let judge = match judged && config.reward_model.is_none() {
        true => prepared.stats.tokens_per_epoch * u64::from(config.reward_num_train_epochs),
        false => 0,
    };
    let learned = answers * u64::from(config.num_ppo_epochs);
    Workload {
        tokens: learned + judge,
        trained_tokens: of(learned, trained_share),
        eval_tokens: looked_at,
        eval_trained_tokens: of(looked_at, trained_share),
        generated_tokens: generated,
        steps,
    }
}
