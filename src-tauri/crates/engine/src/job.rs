//! A training job from its folder to the finished model.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, BufRead},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use candle_core::Device;
use data::{PrepareOptions, Prepared, Tokenizer};
use models::{CausalLm, LoadOptions, LoraConfig};
use train::{Checkpoint, Outcome, TrainRun};
use types::{
    JobFolder, Phase, Profile, RunSpec, TrainEvent, TrainingConfig, TrainingResult, engine::TrainCommand,
};

use crate::{EngineError, complain, event_log::EventLog, inputs::Inputs, publish};

/// Where this engine computes.
pub const DEVICE_NAME: &str = "cpu";

/// The largest `run.json` that is read.
const MAX_SPEC: u64 = 1 << 20;

/// How often, and how far apart, a job's lock is tried.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(30);

/// Trains the job in `folder`. Exit codes: 0 finished or stopped, 1 failed, 3 another engine has the job.
pub fn main(folder: &Path) -> ExitCode {
    let job = JobFolder::new(folder);
    // Held until the process ends, however it ends: the system lets go of it.
    let _lock = match lock(&job) {
        Ok(lock) => lock,
        Err(error) => {
            complain(&error);
            return ExitCode::from(if matches!(error, EngineError::Busy(_)) { 3 } else { 1 });
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    listen_for_stop(&stop);
    let mut log = match EventLog::open(&job) {
        Ok(log) => log,
        Err(error) => {
            complain(EngineError::file(job.events())(error));
            return ExitCode::FAILURE;
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| train_job(&job, &mut log, &stop)))
        .unwrap_or_else(|panic| Err(Failure::Panic(panic_text(panic.as_ref()))));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let error = failure.to_string();
            complain(&error);
            if !matches!(failure, Failure::Engine(EngineError::AlreadyFinished(_))) {
                let result = TrainingResult {
                    success: false,
                    model_id: None,
                    model_path: None,
                    message: "Training failed".into(),
                    error: Some(error),
                };
                if let Err(error) = log.write(TrainEvent::Finished { result, metrics: BTreeMap::new() }) {
                    complain(EngineError::file(job.events())(error));
                }
            }
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("internal error: {0}; engine.log in the job folder has more")]
    Panic(String),
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the engine panicked").to_owned()
}

fn train_job(job: &JobFolder, log: &mut EventLog, stop: &AtomicBool) -> Result<(), Failure> {
    let spec = read_spec(job)?;
    if matches!(log.last(), Some(TrainEvent::Finished { result, .. }) if result.success) {
        return Err(EngineError::AlreadyFinished(spec.job_id).into());
    }
    if let Some(refused) = spec.config.unsupported().into_iter().next() {
        return Err(EngineError::Unsupported(refused).into());
    }
    let events = job.events();
    // The log is part of the run: where it cannot be written (a full disk), the run stops instead of losing events.
    let mut lost = None;
    let mut emit = |event: TrainEvent| {
        if lost.is_none()
            && let Err(error) = log.write(event)
        {
            stop.store(true, Ordering::Relaxed);
            lost = Some(error);
        }
    };
    let outcome = run(&spec, job, &mut emit, stop);
    if let Some(error) = lost {
        return Err(EngineError::file(events)(error).into());
    }
    Ok(outcome?)
}

fn run(
    spec: &RunSpec,
    job: &JobFolder,
    emit: &mut dyn FnMut(TrainEvent),
    stop: &AtomicBool,
) -> Result<(), EngineError> {
    let config = &spec.config;
    let checkpoint = Checkpoint::newest(job, config)?;
    emit(TrainEvent::Started {
        job_id: spec.job_id.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        resumed_from: checkpoint.as_ref().map(Checkpoint::step),
    });

    emit(TrainEvent::Phase { phase: Phase::PreparingData });
    let context_length = models::read_info(&spec.base_dir)?.context_length;
    let tokenizer = Tokenizer::load(&spec.base_dir)?;
    let prepared = prepare(spec, job, &tokenizer, context_length)?;
    let inputs = Inputs::check(spec, job)?;
    for message in &prepared.stats.warnings {
        emit(TrainEvent::Warning { message: message.clone() });
    }

    emit(TrainEvent::Phase { phase: Phase::LoadingModel });
    let mut model = models::load(&spec.base_dir, &LoadOptions { bf16: config.bf16, device: Device::Cpu })?;
    check_vocab(&tokenizer, model.as_ref())?;
    model.attach_lora(&lora_config(config), config.seed)?;
    emit(loaded_event(model.as_ref()));

    let run = TrainRun { model: model.as_ref(), data: &prepared, config, job, resume: checkpoint };
    let outcome = train::run(run, emit, &|| stop.load(Ordering::Relaxed))?;
    let Outcome::Finished(summary) = outcome else { return Ok(()) };

    emit(TrainEvent::Phase { phase: Phase::Saving });
    publish::model(spec, model.as_ref(), &tokenizer, &prepared, &inputs, &summary)?;
    // Tokenized rows can be made again; a finished run needs them no more. Some systems delete no open file.
    drop(prepared);
    if let Err(error) = fs::remove_dir_all(job.tokens()) {
        complain(EngineError::file(job.tokens())(error));
    }
    emit(TrainEvent::Finished {
        result: TrainingResult {
            success: true,
            model_id: Some(spec.model_id.clone()),
            model_path: Some(spec.model_dir.clone()),
            message: "Training completed successfully".into(),
            error: None,
        },
        metrics: summary.metrics,
    });
    Ok(())
}

fn prepare(
    spec: &RunSpec,
    job: &JobFolder,
    tokenizer: &Tokenizer,
    context_length: usize,
) -> Result<Prepared, EngineError> {
    let config = &spec.config;
    fs::create_dir_all(job.tokens()).map_err(EngineError::file(job.tokens()))?;
    let options = PrepareOptions {
        dataset: &spec.dataset_path,
        eval_dataset: spec.eval_dataset_path.as_deref(),
        task: config.task,
        strategy: config.strategy,
        max_seq_length: config.max_seq_length,
        context_length,
        length_cap: config.compute_specs.map(length_cap),
        eval_split: config.eval_split,
        packing: config.packing,
        skip_bad_rows: config.skip_bad_rows,
        seed: config.seed,
        tokens_dir: &job.tokens(),
    };
    Ok(data::prepare(&options, tokenizer, &mut |_| {})?)
}

/// The adapter that the settings ask for.
pub fn lora_config(config: &TrainingConfig) -> LoraConfig {
    LoraConfig {
        rank: config.lora_r as usize,
        alpha: f64::from(config.lora_alpha),
        dropout: config.lora_dropout,
        target_modules: config.target_modules.clone(),
    }
}

/// The longest sequence that a machine of each class is given when the settings leave it open.
fn length_cap(profile: Profile) -> u32 {
    match profile {
        Profile::LowEnd => 512,
        Profile::MidRange => 2048,
        Profile::HighEnd => 4096,
    }
}

/// # Errors
/// [`EngineError::VocabTooLarge`] where the tokenizer could produce ids that the model has no embedding for.
pub fn check_vocab(tokenizer: &Tokenizer, model: &dyn CausalLm) -> Result<(), EngineError> {
    let (tokenizer, model) = (tokenizer.vocab_size(), model.info().vocab_size);
    if tokenizer > model { Err(EngineError::VocabTooLarge { tokenizer, model }) } else { Ok(()) }
}

fn loaded_event(model: &dyn CausalLm) -> TrainEvent {
    let info = model.info();
    TrainEvent::Loaded {
        architecture: info.architecture.clone(),
        parameters: info.parameters,
        trainable_parameters: model.trainable().iter().map(|(_, var)| var.elem_count() as u64).sum(),
        dtype: info.dtype.clone(),
        device: DEVICE_NAME.into(),
    }
}

fn lock(job: &JobFolder) -> Result<File, EngineError> {
    let path = job.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(EngineError::file(&path))?;
    // Whoever asks whether the job is being worked on holds the lock for a moment too.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(EngineError::file(path)(error)),
        }
    }
    Err(EngineError::Busy(job.path().into()))
}

fn read_spec(job: &JobFolder) -> Result<RunSpec, EngineError> {
    let path = job.run_json();
    let length = fs::metadata(&path).map_err(EngineError::file(&path))?.len();
    let bad = |message: String| EngineError::Spec { path: path.clone(), message };
    if length > MAX_SPEC {
        return Err(bad(format!("is {length} bytes long, which no run description is")));
    }
    let text = fs::read(&path).map_err(EngineError::file(&path))?;
    let spec: RunSpec = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if spec.version != RunSpec::VERSION {
        let (found, known) = (spec.version, RunSpec::VERSION);
        return Err(bad(format!("has version {found}, this engine reads version {known}")));
    }
    Ok(spec)
}

/// Ctrl-C, a termination signal and the `stop` command end the run after the current step.
fn listen_for_stop(stop: &Arc<AtomicBool>) {
    let flag = stop.clone();
    if let Err(error) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        complain(format!("signals are not handled: {error}"));
    }
    let flag = stop.clone();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            match serde_json::from_str(&line) {
                Ok(TrainCommand::Stop) => flag.store(true, Ordering::Relaxed),
                Err(error) => complain(format!("standard input: not a command: {error}")),
            }
        }
    });
}
