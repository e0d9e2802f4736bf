//! The model families that can be loaded, by the name `config.json` gives in `architectures`.

mod bart;
mod bert;
mod deberta;
mod decoder;
mod distilbert;
mod encoder;
mod encoder_decoder;
mod gemma;
mod gpt_oss;
mod gptj;
mod llama;
mod mistral3;
mod phi3;
mod qwen;
mod roberta;
mod smollm3;
mod t5;

use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::Value;
use types::{Provider, architecture::ModelKind};

use self::decoder::Description;
pub use self::decoder::Sizes;
pub(crate) use self::decoder::quantised_bytes;
use crate::{
    AnyModel, LoadOptions, ModelError, ModelInfo, Seq2SeqLm, SpanModel,
    export::gguf,
    json::JsonFile,
    weights::{Quantise, Weights},
};

/// A family of models.
pub struct Architecture {
    /// Its name in `architectures`.
    pub name: &'static str,
    family: Family,
}

/// How a family's models are made, by their kind.
enum Family {
    /// Decoder-only: the config read as a description, which one engine carries out.
    Decoder(fn(&JsonFile) -> Result<Description, ModelError>),
    /// Encoder-decoder.
    Seq2Seq { info: Info, build: Builder<dyn Seq2SeqLm> },
    /// An encoder that points at an answer.
    Span { info: Info, build: Builder<dyn SpanModel> },
}

/// Facts that the config alone tells.
type Info = fn(&str, &JsonFile) -> Result<ModelInfo, ModelError>;

/// Reads the config, takes its tensors and builds the model.
type Builder<M> = fn(&str, &JsonFile, Weights, Provider) -> Result<Box<M>, ModelError>;

impl Architecture {
    /// The kind of its models.
    pub fn kind(&self) -> ModelKind {
        match self.family {
            Family::Decoder(_) => ModelKind::Causal,
            Family::Seq2Seq { .. } => ModelKind::Seq2Seq,
            Family::Span { .. } => ModelKind::Span,
        }
    }
}

/// Every family there is.
pub const ARCHITECTURES: &[Architecture] = &[
    decoder("LlamaForCausalLM", llama::describe),
    decoder("MistralForCausalLM", llama::describe_mistral),
    decoder("Mistral3ForConditionalGeneration", mistral3::describe),
    decoder("Qwen2ForCausalLM", qwen::describe_qwen2),
    decoder("Qwen3ForCausalLM", qwen::describe_qwen3),
    decoder("SmolLM3ForCausalLM", smollm3::describe),
    decoder("Gemma2ForCausalLM", gemma::describe_gemma2),
    decoder("Gemma3ForCausalLM", gemma::describe_gemma3),
    decoder("Gemma3ForConditionalGeneration", gemma::describe_gemma3_text_part),
    decoder("Phi3ForCausalLM", phi3::describe),
    decoder("GPTJForCausalLM", gptj::describe),
    decoder("GptOssForCausalLM", gpt_oss::describe),
    encoder_decoder("T5ForConditionalGeneration", t5::info, t5::build),
    encoder_decoder("BartForConditionalGeneration", bart::info, bart::build),
    encoder_decoder("BartModel", bart::info, bart::build),
    encoder("BertForQuestionAnswering", bert::info, bert::build),
    encoder("BertForMaskedLM", bert::info, bert::build),
    encoder("BertForPreTraining", bert::info, bert::build),
    encoder("BertModel", bert::info, bert::build),
    encoder("RobertaForQuestionAnswering", roberta::info, roberta::build),
    encoder("RobertaForMaskedLM", roberta::info, roberta::build),
    encoder("RobertaModel", roberta::info, roberta::build),
    encoder("DistilBertForQuestionAnswering", distilbert::info, distilbert::build),
    encoder("DistilBertForMaskedLM", distilbert::info, distilbert::build),
    encoder("DistilBertModel", distilbert::info, distilbert::build),
    encoder("DebertaV2ForQuestionAnswering", deberta::info, deberta::build),
    encoder("DebertaV2ForMaskedLM", deberta::info, deberta::build),
    encoder("DebertaV2Model", deberta::info, deberta::build),
];

/// A decoder-only family.
const fn decoder(
    name: &'static str,
    describe: fn(&JsonFile) -> Result<Description, ModelError>,
) -> Architecture {
    Architecture { name, family: Family::Decoder(describe) }
}

/// An encoder-decoder family.
const fn encoder_decoder(name: &'static str, info: Info, build: Builder<dyn Seq2SeqLm>) -> Architecture {
    Architecture { name, family: Family::Seq2Seq { info, build } }
}

/// An encoder that points at answers, whatever head it was published with.
const fn encoder(name: &'static str, info: Info, build: Builder<dyn SpanModel>) -> Architecture {
    Architecture { name, family: Family::Span { info, build } }
}

/// Tells the dtype that a model was loaded in.
fn note_dtype(info: &mut ModelInfo, weight: &Tensor) {
    info.dtype = weight.dtype().as_str().to_owned();
}

/// `config.json` of the model in `folder` and the family it names.
fn find(folder: &Path) -> Result<(&'static Architecture, JsonFile), ModelError> {
    let json = JsonFile::read(&folder.join("config.json"))?;
    let named = match json.get("architectures") {
        Some(Value::Array(names)) if names.len() == 1 => names.first().and_then(Value::as_str),
        _ => None,
    };
    let named = named.ok_or_else(|| json.wrong("architectures", "must be a list of one name"))?;
    match ARCHITECTURES.iter().find(|a| a.name == named) {
        Some(architecture) => Ok((architecture, json)),
        None => Err(ModelError::UnknownArchitecture {
            path: json.path().to_owned(),
            found: named.chars().take(100).collect(),
            nearest: types::architecture::nearest(named),
            supported: ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Loads the model in `folder`: `config.json` and its safetensors files.
pub fn load(folder: &Path, options: &LoadOptions) -> Result<AnyModel, ModelError> {
    load_quantised(folder, options, None)
}

/// The same with linear layers in fewer bits, quantised as they are read: no more than a piece of a tensor is in memory in full.
pub fn load_quantised(
    folder: &Path,
    options: &LoadOptions,
    quantise: Option<Quantise>,
) -> Result<AnyModel, ModelError> {
    load_as(folder, options, quantise, kernels::computed_in(&options.device, options.bf16, false)?)
}

/// The same with weights and activations in `dtype`, whatever the options say; see [`kernels::computed_in`].
pub fn load_as(
    folder: &Path,
    options: &LoadOptions,
    quantise: Option<Quantise>,
    dtype: DType,
) -> Result<AnyModel, ModelError> {
    load_split(folder, options, quantise, dtype, 0)
}

/// The same with the embeddings and so many of the first layers of a decoder on the processor, all but the last one at most, where there
/// are any, and the others where `options` say. Such a model is not trained.
pub fn load_split(
    folder: &Path,
    options: &LoadOptions,
    quantise: Option<Quantise>,
    dtype: DType,
    layers_left: usize,
) -> Result<AnyModel, ModelError> {
    kernels::stop_busy_waiting();
    kernels::keep_freed_memory();
    kernels::Level::forced()?;
    let (architecture, json) = find(folder)?;
    let mut weights = Weights::open(folder, dtype, &options.device)?;
    if let Some(how) = quantise {
        weights.quantise(how);
    }
    // Where there are no fused kernels, both providers are the reference.
    let fused = kernels::are_fused(&options.device);
    let provider = if fused { options.provider } else { Provider::Huggingface };
    let (name, left) = (architecture.name, layers_left);
    Ok(match architecture.family {
        Family::Decoder(describe) => {
            AnyModel::Causal(decoder::build(name, &describe(&json)?, weights, provider, left)?)
        }
        Family::Seq2Seq { build, .. } => AnyModel::Seq2Seq(build(name, &json, weights, provider)?),
        Family::Span { build, .. } => AnyModel::Span(build(name, &json, weights, provider)?),
    })
}

/// What a decoder takes where it is loaded like that, from the headers of its files; none of another kind of model.
///
/// # Errors
/// As [`load`], as far as nothing but headers is read.
pub fn sizes(
    folder: &Path,
    options: &LoadOptions,
    quantise: Option<Quantise>,
    dtype: DType,
) -> Result<Option<Sizes>, ModelError> {
    let (architecture, json) = find(folder)?;
    let Family::Decoder(describe) = architecture.family else { return Ok(None) };
    let mut weights = Weights::open(folder, dtype, &options.device)?;
    if let Some(how) = quantise {
        weights.quantise(how);
    }
    weights.name_text_part();
    Ok(Some(Sizes::new(&describe(&json)?, &weights)))
}

/// What `config.json` alone tells of the model in `folder`, without reading its weights; `dtype` is that of loading
/// without bf16.
pub fn read_info(folder: &Path) -> Result<ModelInfo, ModelError> {
    let (architecture, json) = find(folder)?;
    match architecture.family {
        Family::Decoder(describe) => Ok(decoder::info(architecture.name, &describe(&json)?)),
        Family::Seq2Seq { info, .. } | Family::Span { info, .. } => info(architecture.name, &json),
    }
}

/// How the model in `folder` is written as GGUF.
pub(crate) fn gguf_layout(folder: &Path) -> Result<gguf::Layout, ModelError> {
    let (architecture, json) = find(folder)?;
    let description = match architecture.family {
        Family::Decoder(describe) => Some(describe(&json)?),
        Family::Seq2Seq { .. } | Family::Span { .. } => None,
    };
    match description.and_then(|description| description.gguf.map(|kind| (description, kind))) {
        Some((description, kind)) => decoder::gguf::layout(&description, kind),
        None => Err(ModelError::Export(format!(
            "{} models cannot be exported to GGUF here; Llama, Mistral, Qwen2 and Qwen3 models can. Export as \
             safetensors instead",
            architecture.name
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a broken golden ends the test")]
mod tests {
    use super::*;

    #[test]
    fn the_app_offers_what_can_be_loaded() {
        let here: Vec<_> = ARCHITECTURES.iter().map(|a| (a.name, a.kind())).collect();
        let offered: Vec<_> = types::architecture::TRAINABLE.iter().map(|a| (a.name, a.kind)).collect();
        assert_eq!(here, offered, "the list in types names every family, in its order");
    }

    #[test]
    fn the_app_knows_what_the_fused_kernels_compute() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden");
        let mut seen = 0;
        for folder in std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok((architecture, json)) = find(&folder) else { continue };
            let Family::Decoder(describe) = architecture.family else { continue };
            let fits = decoder::is_fused(&describe(&json).unwrap());
            let known = types::architecture::find(architecture.name).unwrap();
            assert_eq!(known.fused, fits, "{}", folder.display());
            seen += 1;
        }
        assert!(seen >= 15, "only {seen} tiny models were found");
    }
}
