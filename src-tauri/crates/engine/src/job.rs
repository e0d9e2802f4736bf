//! A training job from its folder to the finished model.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use models::Model;
use train::{Checkpoint, Outcome, Summary, TrainRun};
use types::{
    Fallback, JobFolder, Phase, RunSpec, Strategy, TrainEvent, TrainingConfig, TrainingResult,
    engine::{Control, exit},
    files,
};

use crate::{
    EngineError, answers::Answers, complain, device, event_log::EventLog, inputs, load, memory,
    orders::Orders, publish, rlhf,
};

/// How often, and how far apart, a job's lock is tried.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(30);

/// Trains the job in `folder`. How it ends is told by [`exit`] codes.
pub fn main(folder: &Path) -> u8 {
    let job = JobFolder::new(folder);
    // Held until the process ends, however it ends: the system lets go of it.
    let _lock = match lock(&job) {
        Ok(lock) => lock,
        Err(error) => {
            complain(&error);
            return if matches!(error, EngineError::Busy(_)) { exit::BUSY } else { exit::FAILURE };
        }
    };
    if let Err(error) = clear_remains(&job) {
        complain(error);
        return exit::FAILURE;
    }
    let orders = match Orders::listen(&job) {
        Ok(orders) => orders,
        Err(error) => {
            complain(error);
            return exit::FAILURE;
        }
    };
    let mut log = match EventLog::open(&job) {
        Ok(log) => log,
        Err(error) => {
            let error = EngineError::file(job.events())(error);
            complain(&error);
            return if error.is_disk_full() { exit::DISK_FULL } else { exit::FAILURE };
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| train_job(&job, &mut log, &orders)))
        .unwrap_or_else(|panic| Err(EngineError::panic(panic.as_ref())));
    match result {
        Ok(()) => exit::SUCCESS,
        Err(failure) if failure.is_disk_full() => {
            complain(&failure);
            match log.write(TrainEvent::halted(&job, format!("The disk is full. {failure}"))) {
                Ok(()) => exit::SUCCESS,
                Err(error) => {
                    complain(EngineError::file(job.events())(error));
                    exit::DISK_FULL
                }
            }
        }
        Err(failure) if failure.is_out_of_memory() => {
            complain(&failure);
            exit::OUT_OF_MEMORY
        }
        Err(failure) if failure.is_card_lost() => {
            complain(&failure);
            exit::CARD_LOST
        }
        Err(failure) => {
            let error = failure.to_string();
            complain(&error);
            if !matches!(failure, EngineError::AlreadyFinished(_)) {
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
            exit::FAILURE
        }
    }
}

fn train_job(job: &JobFolder, log: &mut EventLog, orders: &Orders) -> Result<(), EngineError> {
    let spec = load::spec(job)?;
    if matches!(log.last(), Some(TrainEvent::Finished { result, .. }) if result.success) {
        return Err(EngineError::AlreadyFinished(spec.job_id));
    }
    let (events, told) = (job.events(), log.saved());
    // The log is part of the run: where it cannot be written (a full disk), the run stops instead of losing events.
    let mut lost = None;
    let mut memory = memory::Watch::default();
    let mut emit = |event: TrainEvent| {
        if let (TrainEvent::Step(stats), Some(last)) = (&event, spec.finish_after)
            && stats.step >= last
        {
            orders.finish();
        }
        let grown = match &event {
            TrainEvent::Step(_) | TrainEvent::Eval { .. } => memory.look(),
            _ => None,
        };
        for event in [Some(event), grown].into_iter().flatten() {
            if lost.is_none()
                && let Err(error) = log.write(event)
            {
                lost = Some(error);
            }
            if lost.is_some() || log.is_disk_full() {
                orders.interrupt();
            }
        }
    };
    let outcome = run(&spec, job, told, &mut emit, orders);
    if let Some(error) = lost {
        return Err(EngineError::file(events)(error));
    }
    outcome?;
    if log.is_disk_full() && matches!(log.last(), Some(TrainEvent::Stopped { .. })) {
        log.write(TrainEvent::halted(job, "The disk is full.".into())).map_err(EngineError::file(events))?;
    }
    Ok(())
}

/// `told`: the last checkpoint in the log.
fn run(
    spec: &RunSpec,
    job: &JobFolder,
    told: Option<u64>,
    emit: &mut dyn FnMut(TrainEvent),
    orders: &Orders,
) -> Result<(), EngineError> {
    let config = &spec.config;
    let checkpoint = Checkpoint::newest(job, config)?;
    let resumed_from = checkpoint.as_ref().map(Checkpoint::step);
    emit(TrainEvent::Started {
        job_id: spec.job_id.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        resumed_from,
    });
    // One that was complete when the engine was killed, which had not said so yet.
    if let Some(step) = resumed_from.filter(|_| resumed_from != told) {
        emit(TrainEvent::Checkpoint { step, path: job.checkpoint(step) });
    }
    if spec.finish_after.zip(resumed_from).is_some_and(|(last, step)| step >= last) {
        orders.finish();
    }
    // Between the parts before the first step. There, an order to finish waits for the model of a resumed run.
    let paused = |emit: &mut dyn FnMut(TrainEvent)| {
        let paused = orders.newest() == Some(Control::Pause);
        if paused {
            let checkpoint = resumed_from.map(|step| job.checkpoint(step));
            emit(TrainEvent::Stopped { step: resumed_from.unwrap_or(0), checkpoint });
        }
        paused
    };

    emit(TrainEvent::Phase { phase: Phase::PreparingData });
    let (tokenizer, prepared) = load::data(spec, &job.tokens())?;
    if paused(emit) {
        return Ok(());
    }
    let inputs = inputs::check(spec, job)?;
    for message in &prepared.stats.warnings {
        emit(TrainEvent::Warning { message: message.clone() });
    }
    if paused(emit) {
        return Ok(());
    }

    if let Ok(why) = std::env::var(types::engine::NOT_ON_CARD) {
        emit(TrainEvent::Warning { message: format!("the run is computed on the processor: {why}") });
    }
    emit(TrainEvent::Phase { phase: Phase::LoadingModel });
    let on_processor = Fallback::read(job).map_err(EngineError::file(job.fallback()))?;
    let on_processor = on_processor.is_some_and(|fallback| fallback.on_processor);
    let warn = &mut |message| emit(TrainEvent::Warning { message });
    let mut model = load::model(spec, &tokenizer, on_processor, warn)?;
    emit(loaded_event(&*model, config));

    let outcome = if config.strategy == Strategy::Rlhf {
        rlhf::train(spec, job, &mut model, (&tokenizer, &prepared), checkpoint, emit, orders)?
    } else {
        let model = &*model;
        let answers = Answers::new(model, &tokenizer, &prepared, spec)?;
        let run =
            TrainRun { model, data: &prepared, config, job, resume: checkpoint, answers: Some(&answers) };
        train::run(run, emit, &|| orders.newest())?
    };
    let Outcome::Finished(summary) = outcome else { return Ok(()) };

    emit(TrainEvent::Phase { phase: Phase::Saving });
    publish::model(spec, job, &*model, &tokenizer, &prepared, &inputs, &summary)?;
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
            message: message(&summary, config),
            error: None,
        },
        metrics: summary.metrics,
    });
    Ok(())
}

/// Removes what a killed engine left half written.
fn clear_remains(job: &JobFolder) -> Result<(), EngineError> {
    train::checkpoint::clear_unfinished(job)?;
    for entry in fs::read_dir(job.path()).map_err(EngineError::file(job.path()))? {
        let path = entry.map_err(EngineError::file(job.path()))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(files::TEMPORARY)) {
            fs::remove_file(&path).map_err(EngineError::file(&path))?;
        }
    }
    Ok(())
}

fn message(summary: &Summary, config: &TrainingConfig) -> String {
    let Summary { steps, planned_steps, stalled, best_step, .. } = summary;
    let (metric, patience) = (config.best_metric(), config.early_stopping_patience);
    let mut text = match (steps < planned_steps, stalled) {
        (false, _) => "Training completed successfully".to_owned(),
        (true, false) => format!("Training finished early at step {steps} of {planned_steps}"),
        (true, true) => format!(
            "Training finished early at step {steps} of {planned_steps}: {metric} did not improve in {patience} evaluations"
        ),
    };
    if let Some(step) = best_step {
        text.push_str(&format!("; the model is that of step {step}, which had the best {metric}"));
    }
    text
}

fn loaded_event(model: &dyn Model, config: &TrainingConfig) -> TrainEvent {
    let info = model.info();
    let kept = config.quantisation().map(|quantisation| quantisation.codes.name());
    TrainEvent::Loaded {
        architecture: info.architecture.clone(),
        parameters: info.parameters,
        trainable_parameters: model.trainable().iter().map(|(_, var)| var.elem_count() as u64).sum(),
        dtype: kept.map_or_else(|| info.dtype.clone(), |codes| format!("{codes}, {}", info.dtype)),
        device: device::name(model.device()).into(),
    }
}

fn lock(job: &JobFolder) -> Result<File, EngineError> {
    let path = job.lock();
    let file = files::open_lock(&path).map_err(EngineError::file(&path))?;
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
