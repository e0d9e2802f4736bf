//! A run that learns from rewards: a reward model first, where one is to be trained, then the policy, on one base in memory.

use std::{error::Error, fs, io, path::Path};

use data::{Prepared, Tokenizer};
use infer::{BatchPrompt, write_batch};
use models::{AnyModel, Model, ModelView, Pass};
use train::{
    Checkpoint, Outcome, TrainRun,
    rl::{Judge, PolicyRun, Writer, train_policy, train_reward_model},
};
use types::{
    Fallback, GenerateParams, JobFolder, ModelFolder, Phase, RlAlgorithm, RunSpec, TrainEvent,
    engine::Control, files, folder::REWARD_MODEL, inputs::reward_model_folder,
};

use crate::{EngineError, answers::Answers, load, orders::Orders};

/// Trains the adapter of `model`, in whose place others are put on the way.
///
/// # Errors
/// As [`train::run`] has them; a reward model that cannot be read.
pub fn train(
    spec: &RunSpec,
    job: &JobFolder,
    model: &mut AnyModel,
    (tokenizer, prepared): (&Tokenizer, &Prepared),
    resume: Option<Checkpoint>,
    emit: &mut dyn FnMut(TrainEvent),
    orders: &Orders,
) -> Result<Outcome, EngineError> {
    let config = &spec.config;
    let judge = Judge::new(config)?;
    let control = || orders.newest();
    let mut accuracy = None;
    if matches!(judge, Judge::Model) {
        match reward_model(spec, job, model, prepared, emit, &control)? {
            Some(known) => accuracy = known,
            None => {
                // Nothing of the policy has been done since it was paused, if ever it began.
                let step = resume.as_ref().map_or(0, Checkpoint::step);
                let checkpoint = resume.map(|checkpoint| checkpoint.path().to_owned());
                emit(TrainEvent::Stopped { step, checkpoint: checkpoint.clone() });
                return Ok(Outcome::Stopped { step, checkpoint });
            }
        }
        model.shelve_adapter();
    }
    let ppo = config.rl_algorithm == RlAlgorithm::Ppo;
    if ppo {
        model.set_scored(true)?;
    }
    model.attach_lora(&load::lora_config(config), config.seed)?;
    if !ppo {
        without_head(model);
    }

    let outcome = {
        let model: &dyn Model = &**model;
        let answers = Answers::new(model, tokenizer, prepared, spec)?;
        let run = TrainRun { model, data: prepared, config, job, resume, answers: Some(&answers) };
        let fallback = Fallback::read(job).map_err(EngineError::file(job.fallback()))?;
        let parts = fallback.map_or(1, |fallback| fallback.batch_parts as usize);
        let writer = BatchWriter { model, tokenizer, parts };
        // Every evaluation says how well rewards are told, since what it tells rests on them.
        let mut told = |event: TrainEvent| {
            emit(match event {
                TrainEvent::Eval { step, mut metrics, answered_rows } => {
                    metrics.extend(accuracy.map(|value| (ACCURACY.to_owned(), value)));
                    TrainEvent::Eval { step, metrics, answered_rows }
                }
                event => event,
            });
        };
        train_policy(PolicyRun { run, writer: &writer, judge: &judge }, &mut told, &control)?
    };
    // The model that comes out writes; nobody asks it for values.
    without_head(model);
    Ok(match outcome {
        Outcome::Finished(mut summary) => {
            summary.metrics.extend(accuracy.map(|value| (ACCURACY.to_owned(), value)));
            Outcome::Finished(summary)
        }
        stopped => stopped,
    })
}

/// The part of the held-out pairs whose better answer the reward model gives the higher reward.
const ACCURACY: &str = "reward_model/accuracy";

/// What a finished reward model leaves beside its adapter.
const MEASURED: &str = "metrics.json";

/// Takes the trained head off, so that only the adapter is trained and saved; the second adapter's stays.
fn without_head(model: &mut AnyModel) {
    model.trained_layers().into_iter().for_each(|(_, layer)| layer.reset());
}

/// Puts a reward model's adapter and head on the model: the given one, that of an earlier part of the run, or one that is trained
/// now. Gives its accuracy on held-out pairs, where that was measured; `None` where the run is to pause.
fn reward_model(
    spec: &RunSpec,
    job: &JobFolder,
    model: &mut AnyModel,
    prepared: &Prepared,
    emit: &mut dyn FnMut(TrainEvent),
    control: &dyn Fn() -> Option<Control>,
) -> Result<Option<Option<f64>>, EngineError> {
    let config = &spec.config;
    model.set_scored(true)?;
    let made = job.path().join(REWARD_MODEL);
    let own = JobFolder::new(job.path().join(".reward"));
    if made.is_dir() {
        remove_checkpoints(&own)?;
    }
    let given = config.reward_model.as_deref().map(Path::new).map(reward_model_folder);
    if let Some(folder) = given.or_else(|| made.is_dir().then(|| made.clone())) {
        model.load_adapter(&folder)?;
        if !model.trainable().iter().any(|(name, _)| name.ends_with("score.weight")) {
            return Err(EngineError::NoScores(folder));
        }
        let measured = fs::read(folder.join(MEASURED)).ok();
        let metrics = measured.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        return Ok(Some(metrics.and_then(|metrics| metrics.get(ACCURACY)?.as_f64())));
    }
    emit(TrainEvent::Phase { phase: Phase::RewardModel });
    model.attach_lora(&load::lora_config(config), config.seed)?;
    fs::create_dir_all(own.path()).map_err(EngineError::file(own.path()))?;
    let fallback = Fallback::read(job).map_err(EngineError::file(job.fallback()))?;
    if let Some(fallback) = &fallback {
        fallback.write(&own).map_err(EngineError::file(own.fallback()))?;
    }
    let mut warn = |event: TrainEvent| {
        if let TrainEvent::Warning { message } = event {
            emit(TrainEvent::Warning { message: format!("reward model: {message}") });
        }
    };
    let outcome = train_reward_model(&**model, prepared, config, &own, &mut warn, control)?;
    let Outcome::Finished(summary) = outcome else { return Ok(None) };
    let accuracy = summary.metrics.get(types::EvalMetric::RewardAccuracies.name()).copied();

    let unfinished = job.path().join(".reward_model.writing");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(EngineError::file(&unfinished))?;
    }
    fs::create_dir(&unfinished).map_err(EngineError::file(&unfinished))?;
    model.save_adapter(&unfinished, &load::lora_config(config), &config.model_name)?;
    let measured = serde_json::json!({ ACCURACY: accuracy });
    let path = unfinished.join(MEASURED);
    files::write_json(&path, &measured).map_err(EngineError::file(&path))?;
    files::publish_folder(&unfinished, &made).map_err(EngineError::file(&made))?;
    remove_checkpoints(&own)?;
    Ok(Some(accuracy))
}

/// Once a reward model is whole, nothing goes on from the checkpoints of its training.
fn remove_checkpoints(own: &JobFolder) -> Result<(), EngineError> {
    match fs::remove_dir_all(own.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EngineError::file(own.path())(error)),
        _ => Ok(()),
    }
}

/// Puts the reward model that a run has trained into the folder of the model that it made.
///
/// # Errors
/// A file cannot be copied.
pub fn keep_reward_model(job: &JobFolder, folder: &ModelFolder) -> Result<(), EngineError> {
    let from = job.path().join(REWARD_MODEL);
    if !from.is_dir() {
        return Ok(());
    }
    let to = folder.path().join(REWARD_MODEL);
    fs::create_dir(&to).map_err(EngineError::file(&to))?;
    for entry in fs::read_dir(&from).map_err(EngineError::file(&from))? {
        let path = entry.map_err(EngineError::file(&from))?.path();
        let bytes = fs::read(&path).map_err(EngineError::file(&path))?;
        let copy = to.join(path.file_name().unwrap_or_default());
        files::write(&copy, &bytes).map_err(EngineError::file(&copy))?;
    }
    Ok(())
}

/// Has the model in training answer, all prompts at once or in so many parts. No answer depends on its neighbours.
struct BatchWriter<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    parts: usize,
}

impl Writer for BatchWriter<'_> {
    fn write(
        &self,
        prompts: &[&[u32]],
        seeds: &[u64],
        length: usize,
        temperature: f64,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Vec<u32>>>, Box<dyn Error>> {
        let ModelView::Causal(model) = self.model.view() else {
            return Err("only decoder-only models learn from rewards".into());
        };
        let prompts: Vec<BatchPrompt> =
            prompts.iter().zip(seeds).map(|(ids, &seed)| BatchPrompt { ids, seed }).collect();
        let params = GenerateParams {
            max_new_tokens: length,
            temperature,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            ..GenerateParams::default()
        };
        let mut answers = Vec::with_capacity(prompts.len());
        for part in prompts.chunks(prompts.len().div_ceil(self.parts).max(1)) {
            let written = write_batch(model, part, &params, self.tokenizer.eos_ids(), Pass::EVAL, wanted)?;
            let Some(written) = written else { return Ok(None) };
            answers.extend(written.into_iter().map(|answer| answer.ids));
        }
        Ok(Some(answers))
    }

    fn text(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids)
    }
}
