//! The export that transformers loads: merged weights, config, tokenizer and chat template.

use std::{fs, path::Path};

use candle_core::Device;
use data::Tokenizer;
use infer::{Decoder, Sampler};
use models::{
    CausalLm, LoadOptions, Pass,
    export::{
        Merged,
        safetensors::{Plan, SHARD_BYTES},
    },
};
use serde_json::{Map, Value};
use types::{ExportDtype, GenerateParams, Message, Provider, export::ExportRequest, files};

use super::{check_room, progress};
use crate::{EngineError, chat, publish::TOKENIZER_FILES};

/// Tokens that base model with adapter and exported model must agree on.
const COMPARED: usize = 16;
/// What they are asked.
const QUESTION: &str = "What can you do for me?";

/// Fills the folder and says whether the exported model answers as base model and adapter do.
pub fn export(request: &ExportRequest, merged: &Merged) -> Result<bool, EngineError> {
    let plan = Plan::new(merged, request.dtype, SHARD_BYTES)?;
    check_room(request, plan.bytes())?;
    // Checked before the long part: a config that cannot be read ends in no model.
    models::read_info(&request.base_dir)?;
    let mut progress = progress(plan.bytes());
    progress(0)?;
    plan.write(merged, &request.folder, &mut progress)?;
    write_config(&request.base_dir, &request.folder, request.dtype)?;
    copy_tokenizer(request)?;
    answers_alike(request, plan.rounding())
}

/// `config.json` of the base, with the dtype that the weights have now.
fn write_config(base: &Path, folder: &Path, dtype: Option<ExportDtype>) -> Result<(), EngineError> {
    const NAME: &str = "config.json";
    let (from, to) = (base.join(NAME), folder.join(NAME));
    let text = fs::read(&from).map_err(EngineError::file(&from))?;
    let mut config: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|e| EngineError::Spec { path: from, message: e.to_string() })?;
    if let Some(dtype) = dtype {
        let name = match dtype {
            ExportDtype::F16 => "float16",
            ExportDtype::Bf16 => "bfloat16",
            ExportDtype::F32 | ExportDtype::Q8_0 => "float32",
        };
        // transformers 5 calls it dtype and still reads the name that came before.
        let field = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(field.into(), name.into());
    }
    files::write_json(&to, &config).map_err(EngineError::file(&to))
}

/// The files that went with the adapter, or else those of the base: the adapter's have the template it was trained in.
fn copy_tokenizer(request: &ExportRequest) -> Result<(), EngineError> {
    for name in TOKENIZER_FILES {
        let places = [&request.adapter_dir, &request.base_dir].map(|folder| folder.join(name));
        if let Some(from) = places.iter().find(|path| path.is_file()) {
            let bytes = fs::read(from).map_err(EngineError::file(from))?;
            let to = request.folder.join(name);
            files::write(&to, &bytes).map_err(EngineError::file(&to))?;
        }
    }
    Ok(())
}

/// Whether the exported model, loaded from its files, gives the likeliest tokens that base model and adapter give. One model is
/// let go of before the other is loaded: two may not fit into memory.
///
/// Tokens whose logits are closer than the dtype's rounding are equally likely: the rounding decides between them.
fn answers_alike(request: &ExportRequest, rounding: f32) -> Result<bool, EngineError> {
    let loaded = chat::load_model(&request.base_dir, Some(&request.adapter_dir))?;
    let bf16 = loaded.model.info().dtype == "bf16";
    let rounding = if bf16 { rounding.max(ExportDtype::Bf16.rounding()) } else { rounding };
    let chat::Loaded { model, tokenizer } = loaded;
    let model = model.causal()?;
    let (prompt, wanted) = answer(model.as_ref(), &tokenizer)?;
    drop(model);

    let model = models::load(
        &request.folder,
        &LoadOptions { bf16, provider: Provider::Unsloth, device: Device::Cpu },
    )?
    .causal()?;
    if Tokenizer::load(&request.folder)?.encode_prompt(&question())? != prompt {
        return Ok(false);
    }
    let mut decoder = Decoder::new(model.as_ref());
    let mut logits = decoder.start(&prompt, Pass::EVAL, &|| true)?;
    for id in wanted {
        let known = logits.take().unwrap_or_default();
        let largest = known.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let smallest = known.iter().copied().fold(f32::INFINITY, f32::min);
        let found = known.get(id as usize).copied().unwrap_or(f32::NAN);
        // Not a number is never near.
        let is_likeliest = largest - found <= (largest - smallest) * rounding;
        if !is_likeliest {
            return Ok(false);
        }
        logits = decoder.extend(&[id], &|| true)?;
    }
    Ok(true)
}

fn question() -> [Message; 1] {
    [Message::user(QUESTION)]
}

/// The ids of the question and the likeliest tokens after them, up to the end of the turn.
fn answer(model: &dyn CausalLm, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
    let mut ids = tokenizer.encode_prompt(&question())?;
    let prompt = ids.len();
    // Room for the token that is computed after the last one.
    let most = COMPARED.min(model.info().context_length.saturating_sub(prompt + 1));
    let (mut decoder, mut sampler) = (Decoder::new(model), Sampler::new(&GenerateParams::greedy(COMPARED)));
    let mut logits = decoder.start(&ids, Pass::EVAL, &|| true)?;
    while let Some(known) = logits.take().filter(|_| ids.len() - prompt < most) {
        let id = sampler.choose(known, &ids)?;
        ids.push(id);
        if !tokenizer.eos_ids().contains(&id) {
            logits = decoder.extend(&[id], &|| true)?;
        }
    }
    let answer = ids.split_off(prompt);
    Ok((ids, answer))
}
