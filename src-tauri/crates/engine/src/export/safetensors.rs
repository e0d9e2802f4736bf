//! The export that transformers loads: merged weights, config, tokenizer and chat template.

use std::{fs, path::Path};

use data::Tokenizer;
use infer::{Decoder, InferError, Sampler, Search, Targets, extract};
use models::{
    AnyModel, Model, ModelView, Pass, Seq2SeqLm, SpanModel,
    export::{
        Merged,
        safetensors::{Plan, SHARD_BYTES},
    },
};
use serde_json::{Map, Value};
use types::{ExportDtype, GenerateParams, Message, Provider, export::ExportRequest, files};

use super::{check_room, progress};
use crate::{EngineError, chat, device::Wanted, publish::TOKENIZER_FILES};

/// Tokens that base model with adapter and exported model must agree on.
const COMPARED: usize = 16;
/// What they are asked.
const QUESTION: &str = "What can you do for me?";
/// Where a model that points at answers looks for it.
const TEXT: &str = "I answer questions about a text: I find the words in it that answer them.";
/// Scores from 0 to 1 that are the same but for rounding.
const SAME_SCORE: f64 = 0.02;

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
    let loaded = chat::load_unquantised(&request.base_dir, &request.adapter_dir)?;
    let bf16 = loaded.model.info().dtype == "bf16";
    let rounding = match loaded.model.info().dtype.as_str() {
        "bf16" => rounding.max(ExportDtype::Bf16.rounding()),
        "f16" => rounding.max(ExportDtype::F16.rounding()),
        _ => rounding,
    };
    let chat::Loaded { model, tokenizer } = loaded;
    if let ModelView::Span(pointing) = model.view() {
        let wanted = points(pointing, &tokenizer)?;
        drop(model);
        let (model, tokenizer) = (exported(request, bf16)?, Tokenizer::load(&request.folder)?);
        let ModelView::Span(pointing) = model.view() else { return Ok(false) };
        return Ok(points(pointing, &tokenizer)?.iter().zip(wanted).all(|(a, b)| (a - b).abs() < SAME_SCORE));
    }
    let (prompt, wanted) = answer(&*model, &tokenizer)?;
    drop(model);

    let model = exported(request, bf16)?;
    let tokenizer = Tokenizer::load(&request.folder)?;
    if self::prompt(&tokenizer)? != prompt {
        return Ok(false);
    }
    let mut continued = Continued::new(&*model, &tokenizer)?;
    let mut logits = continued.start(&prompt)?;
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
        logits = continued.extend(id)?;
    }
    Ok(true)
}

/// The exported model.
fn exported(request: &ExportRequest, bf16: bool) -> Result<AnyModel, EngineError> {
    let wanted = Wanted {
        folder: &request.folder,
        bf16,
        fp16: false,
        provider: Provider::Unsloth,
        quantise: None,
        on_processor: true,
    };
    wanted.load(&mut |why| crate::complain(why))
}

/// How likely a model finds its best answer in a text, and that there is none. Of spans that are equally likely, the rounding of a
/// dtype decides which is the best.
fn points(model: &dyn SpanModel, tokenizer: &Tokenizer) -> Result<[f64; 2], EngineError> {
    let found = extract(model, tokenizer, QUESTION, TEXT, &Search::default(), Pass::EVAL, &|| true)?;
    Ok(found.map_or([f64::NAN; 2], |found| [found.score, found.no_answer]))
}

/// The ids of the question as the model is asked it.
fn prompt(tokenizer: &Tokenizer) -> Result<Vec<u32>, EngineError> {
    let question = [Message::user(QUESTION)];
    Ok(match tokenizer.encoder_decoder() {
        Some(model) => tokenizer.encode_framed(&model.source(&question).0, usize::MAX)?.0,
        None => tokenizer.encode_prompt(&question)?,
    })
}

/// The ids of the question and the likeliest tokens after them, up to the end of the turn.
fn answer(model: &dyn Model, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
    let ids = prompt(tokenizer)?;
    // Room for the token that is computed after the last one.
    let most = COMPARED.min(model.info().context_length.saturating_sub(ids.len() + 1));
    let (mut continued, mut sampler) =
        (Continued::new(model, tokenizer)?, Sampler::new(&GenerateParams::greedy(COMPARED)));
    let mut answer = Vec::new();
    let mut logits = continued.start(&ids)?;
    while let Some(known) = logits.take().filter(|_| answer.len() < most) {
        let id = sampler.choose(known, &answer)?;
        answer.push(id);
        if !tokenizer.eos_ids().contains(&id) {
            logits = continued.extend(id)?;
        }
    }
    Ok((ids, answer))
}

/// A text that goes on token by token, in a model that writes texts.
enum Continued<'m> {
    Causal(Decoder<'m>),
    Pairs { model: &'m dyn Seq2SeqLm, start: u32, target: Option<Targets<'m>> },
}

impl<'m> Continued<'m> {
    fn new(model: &'m dyn Model, tokenizer: &Tokenizer) -> Result<Self, EngineError> {
        match (model.view(), tokenizer.encoder_decoder()) {
            (ModelView::Causal(model), _) => Ok(Self::Causal(Decoder::new(model))),
            (ModelView::Seq2Seq(model), Some(format)) => {
                Ok(Self::Pairs { model, start: format.start, target: None })
            }
            _ => Err(InferError::WritesNothing(model.info().architecture.clone()).into()),
        }
    }

    /// Takes the prompt; gives the logits of the first token after it.
    fn start(&mut self, prompt: &[u32]) -> Result<Option<Vec<f32>>, EngineError> {
        match self {
            Self::Causal(decoder) => Ok(decoder.start(prompt, Pass::EVAL, &|| true)?),
            Self::Pairs { model, start, target } => {
                *target = Targets::read(*model, prompt, Pass::EVAL, &|| true)?;
                let start = *start;
                self.extend(start)
            }
        }
    }

    /// Goes on with a token; gives the logits of the next.
    fn extend(&mut self, id: u32) -> Result<Option<Vec<f32>>, EngineError> {
        match self {
            Self::Causal(decoder) => Ok(decoder.extend(&[id], &|| true)?),
            Self::Pairs { target: Some(target), .. } => {
                Ok(target.push(&[id], &|| true)?.and_then(|rows| rows.into_iter().next()))
            }
            Self::Pairs { target: None, .. } => Ok(None),
        }
    }
}
