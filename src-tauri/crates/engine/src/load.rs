//! What a run needs before its first step: its description, its tokens and its model.

use std::{fs, path::Path};

use data::{PrepareOptions, Prepared, Tokenizer};
use models::{AnyModel, Codes, LoraConfig, Model, Quantise};
use types::{
    JobFolder, Profile, Provider, RunSpec, TrainingConfig,
    config::{QuantCodes, Quantisation},
};

use crate::{EngineError, device::Wanted};

/// The largest `run.json` that is read.
const MAX_SPEC: u64 = 1 << 20;

/// Reads the description of a run.
///
/// # Errors
/// It cannot be read, is of another version, or asks for what this version does not carry out.
pub fn spec(job: &JobFolder) -> Result<RunSpec, EngineError> {
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
    let card = crate::device::measured().is_ok_and(|device| !device.is_cpu());
    match spec.config.unsupported_on(card).into_iter().next() {
        Some(refused) => Err(EngineError::Unsupported(refused)),
        None => Ok(spec),
    }
}

/// Reads and tokenizes the dataset of a run; the tokens go to `tokens_dir`.
///
/// # Errors
/// The model's config or tokenizer, or the dataset, cannot be used; the disk.
pub fn data(spec: &RunSpec, tokens_dir: &Path) -> Result<(Tokenizer, Prepared), EngineError> {
    let config = &spec.config;
    let context_length = models::read_info(&spec.base_dir)?.context_length;
    let tokenizer = Tokenizer::load(&spec.base_dir)?;
    fs::create_dir_all(tokens_dir).map_err(EngineError::file(tokens_dir))?;
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
        tokens_dir,
    };
    let prepared = data::prepare(&options, &tokenizer, &mut |_| {})?;
    Ok((tokenizer, prepared))
}

/// Loads the base model of a run and attaches a fresh adapter. On an engine for a card, the processor computes where `on_processor`
/// says so, and where it must, which `warn` is told.
///
/// # Errors
/// The model cannot be used, or not with this tokenizer.
pub fn model(
    spec: &RunSpec,
    tokenizer: &Tokenizer,
    on_processor: bool,
    warn: &mut dyn FnMut(String),
) -> Result<AnyModel, EngineError> {
    let config = &spec.config;
    let wanted = Wanted {
        folder: &spec.base_dir,
        bf16: config.bf16,
        fp16: config.fp16,
        provider: config.provider.unwrap_or(Provider::Unsloth),
        quantise: config.quantisation().map(quantise),
        on_processor,
    };
    let mut model = wanted.load(warn)?;
    check_vocab(tokenizer, &*model)?;
    model.attach_lora(&lora_config(config), config.seed)?;
    Ok(model)
}

/// How the settings keep the base, as the loader is told it.
pub fn quantise(Quantisation { codes, nested, bf16 }: Quantisation) -> Quantise {
    let codes = match codes {
        QuantCodes::Nf4 => Codes::Nf4,
        QuantCodes::Fp4 => Codes::Fp4,
        QuantCodes::Int8 => Codes::Int8,
    };
    Quantise { codes, nested, bf16 }
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

/// # Errors
/// [`EngineError::VocabTooLarge`] where the tokenizer could produce ids that the model has no embedding for.
pub fn check_vocab(tokenizer: &Tokenizer, model: &dyn Model) -> Result<(), EngineError> {
    let (tokenizer, model) = (tokenizer.vocab_size(), model.info().vocab_size);
    if tokenizer > model { Err(EngineError::VocabTooLarge { tokenizer, model }) } else { Ok(()) }
}

/// The longest sequence that a machine of each class is given when the settings leave it open.
fn length_cap(profile: Profile) -> u32 {
    match profile {
        Profile::LowEnd => 512,
        Profile::MidRange => 2048,
        Profile::HighEnd => 4096,
    }
}
