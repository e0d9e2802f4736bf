//! Writing a finished model: every file into a folder under a temporary name, the manifest last, then one rename.

use std::{collections::BTreeMap, fs, path::Path};

use data::{Prepared, Tokenizer};
use models::Model;
use train::Summary;
use types::{
    Fallback, Inputs, JobFolder, Manifest, ModelFolder, RunSpec, files, id,
    manifest::{BaseModel, DatasetOrigin},
};

use crate::{EngineError, card, inputs, load, memory, rlhf};

/// Files of the base model that a model folder carries along, so that it is whole without it but for the weights.
pub const TOKENIZER_FILES: &[&str] = &[
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// Writes the model folder of a finished run.
///
/// # Errors
/// A file cannot be written; then no folder of the model's name exists.
pub fn model(
    spec: &RunSpec,
    job: &JobFolder,
    model: &dyn Model,
    tokenizer: &Tokenizer,
    prepared: &Prepared,
    inputs: &Inputs,
    summary: &Summary,
) -> Result<(), EngineError> {
    if is_published(spec) {
        return Ok(());
    }
    let parent = spec.model_dir.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(EngineError::file(parent))?;
    let temporary = ModelFolder::new(&spec.model_dir).unfinished();
    // What a killed engine left behind under the temporary name.
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(EngineError::file(&temporary))?;
    }
    fs::create_dir(&temporary).map_err(EngineError::file(&temporary))?;
    let written = fill(&temporary, spec, model, tokenizer)
        .and_then(|()| rlhf::keep_reward_model(job, &ModelFolder::new(&temporary)))
        .and_then(|()| describe(&temporary, spec, job, prepared, inputs, summary))
        .and_then(|()| {
            files::publish_folder(&temporary, &spec.model_dir).map_err(EngineError::file(&spec.model_dir))
        });
    if written.is_err() {
        // The error that made it fail matters more than one from clearing up.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// Whether an engine was killed after it had made the model of this run and before it said so.
fn is_published(spec: &RunSpec) -> bool {
    let text = fs::read(ModelFolder::new(&spec.model_dir).manifest());
    let manifest = text.ok().and_then(|text| serde_json::from_slice::<Manifest>(&text).ok());
    manifest.is_some_and(|manifest| manifest.job_id == spec.job_id)
}

/// Adapter and tokenizer.
fn fill(folder: &Path, spec: &RunSpec, model: &dyn Model, tokenizer: &Tokenizer) -> Result<(), EngineError> {
    model.save_adapter(folder, &load::lora_config(&spec.config), &spec.config.model_name)?;
    for name in TOKENIZER_FILES {
        let from = spec.base_dir.join(name);
        if from.is_file() {
            let bytes = fs::read(&from).map_err(EngineError::file(&from))?;
            let to = folder.join(name);
            files::write(&to, &bytes).map_err(EngineError::file(&to))?;
        }
    }
    let converses = tokenizer.encoder_decoder().is_none() && !tokenizer.points_at_answers();
    if converses && !tokenizer.has_own_template() {
        // The plain form it was trained in: other programs must put a conversation the same way.
        let to = folder.join("chat_template.jinja");
        files::write(&to, tokenizer.template().source().as_bytes()).map_err(EngineError::file(&to))?;
    }
    Ok(())
}

/// Card and manifest, the manifest last.
fn describe(
    folder: &Path,
    spec: &RunSpec,
    job: &JobFolder,
    prepared: &Prepared,
    inputs: &Inputs,
    summary: &Summary,
) -> Result<(), EngineError> {
    let model_folder = ModelFolder::new(folder);
    let mut manifest = manifest(spec, prepared, inputs, summary);
    manifest.fallback = Fallback::read(job).map_err(EngineError::file(job.fallback()))?;
    let text = card::render(&manifest, &spec.base_dir, card::Holds::Adapter);
    files::write(&model_folder.card(), text.as_bytes()).map_err(EngineError::file(model_folder.card()))?;
    for path in [model_folder.adapter_config(), model_folder.adapter_weights()] {
        let name = path.file_name().map(Path::new).unwrap_or(&path);
        manifest.files.push(inputs::hash(&path, name)?);
    }
    files::write_json(&model_folder.manifest(), &manifest).map_err(EngineError::file(model_folder.manifest()))
}

fn manifest(spec: &RunSpec, prepared: &Prepared, inputs: &Inputs, summary: &Summary) -> Manifest {
    let config = &spec.config;
    Manifest {
        version: Manifest::VERSION,
        model_id: spec.model_id.clone(),
        name: config.name.clone().unwrap_or_else(|| spec.model_id.clone()),
        job_id: spec.job_id.clone(),
        created_at: id::now_rfc3339(),
        base_model: BaseModel {
            name: config.model_name.clone(),
            path: spec.base_dir.clone(),
            files: inputs.base.clone(),
        },
        dataset: DatasetOrigin {
            name: config.dataset.clone(),
            path: spec.dataset_path.clone(),
            sha256: inputs.dataset.sha256.clone(),
            train_rows: prepared.train.len() as u64,
            eval_rows: prepared.eval.len() as u64,
        },
        eval_dataset: inputs.eval_dataset.clone(),
        reward_model: inputs.reward_model.clone(),
        config: config.clone(),
        fallback: None,
        seed: config.seed,
        versions: BTreeMap::from([("modelforge".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        metrics: summary.metrics.clone(),
        base_metrics: summary.base_metrics.clone(),
        answered_rows: summary.answered_rows,
        best_step: summary.best_step,
        steps: summary.steps,
        planned_steps: Some(summary.planned_steps),
        tokens: summary.tokens,
        seconds: summary.seconds,
        peak_memory_bytes: memory::peak(),
        files: Vec::new(),
    }
}
