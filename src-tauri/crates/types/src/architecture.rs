//! The model architectures that the engine trains, by the name `config.json` gives in `architectures`.
//!
//! The app must know them without the engine's code; a test of `models` holds the two lists together.

use crate::Task;

/// What a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// Decoder-only: goes on with a text.
    Causal,
    /// Encoder-decoder: reads a text and writes another.
    Seq2Seq,
    /// An encoder that points at the part of a text that answers a question.
    Span,
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ModelKind::Causal => "a decoder-only model",
            ModelKind::Seq2Seq => "an encoder-decoder",
            ModelKind::Span => "an encoder that points at answers",
        })
    }
}

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// As `config.json` names it.
    pub name: &'static str,
    /// What its models compute.
    pub kind: ModelKind,
    /// What they can be tuned to do.
    pub tasks: &'static [Task],
    /// Whether the fused kernels compute their layers.
    pub fused: bool,
}

const fn causal(name: &'static str) -> Architecture {
    Architecture { name, kind: ModelKind::Causal, tasks: Task::ALL, fused: true }
}

/// A decoder-only family whose layers only the reference computes.
const fn reference(name: &'static str) -> Architecture {
    Architecture { fused: false, ..causal(name) }
}

/// An encoder-decoder family.
const fn seq2seq(name: &'static str, tasks: &'static [Task]) -> Architecture {
    Architecture { name, kind: ModelKind::Seq2Seq, tasks, fused: false }
}

/// A family of encoders.
const fn span(name: &'static str) -> Architecture {
    let tasks = &[Task::ExtractiveQuestionAnswering];
    Architecture { name, kind: ModelKind::Span, tasks, fused: false }
}

/// Every architecture that can be trained.
pub const TRAINABLE: &[Architecture] = &[
    causal("LlamaForCausalLM"),
    causal("MistralForCausalLM"),
    causal("Mistral3ForConditionalGeneration"),
    causal("Qwen2ForCausalLM"),
    causal("Qwen3ForCausalLM"),
    causal("SmolLM3ForCausalLM"),
    reference("Gemma2ForCausalLM"),
    reference("Gemma3ForCausalLM"),
    reference("Gemma3ForConditionalGeneration"),
    reference("Phi3ForCausalLM"),
    reference("GPTJForCausalLM"),
    reference("GptOssForCausalLM"),
    // It was made for any text from another.
    seq2seq("T5ForConditionalGeneration", &[Task::Summarization, Task::TextGeneration]),
    seq2seq("BartForConditionalGeneration", &[Task::Summarization]),
    seq2seq("BartModel", &[Task::Summarization]),
    span("BertForQuestionAnswering"),
    span("BertForMaskedLM"),
    span("BertForPreTraining"),
    span("BertModel"),
    span("RobertaForQuestionAnswering"),
    span("RobertaForMaskedLM"),
    span("RobertaModel"),
    span("DistilBertForQuestionAnswering"),
    span("DistilBertForMaskedLM"),
    span("DistilBertModel"),
    span("DebertaV2ForQuestionAnswering"),
    span("DebertaV2ForMaskedLM"),
    span("DebertaV2Model"),
];

/// The architecture of this name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    TRAINABLE.iter().find(|architecture| architecture.name == name)
}

/// The architecture that can be trained and is called most like `name`.
pub fn nearest(name: &str) -> &'static str {
    // What a model is for says less of how it is built than the rest of its name.
    let family = |name: &str| match name.find("For").or_else(|| name.find("LMHead")) {
        Some(end) => name[..end].to_lowercase(),
        None => name.to_lowercase(),
    };
    let likeness = |known: &str| {
        let whole = strsim::normalized_levenshtein(known, name);
        strsim::normalized_levenshtein(&family(known), &family(name)) + 0.1 * whole
    };
    let better = |best, known| if likeness(known) > likeness(best) { known } else { best };
    TRAINABLE.iter().map(|architecture| architecture.name).fold(TRAINABLE[0].name, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_a_relative() {
        for (name, want) in [
            ("MixtralForCausalLM", "MistralForCausalLM"),
            ("Qwen2MoeForCausalLM", "Qwen2ForCausalLM"),
            ("Qwen3MoeForCausalLM", "Qwen3ForCausalLM"),
            ("Llama4ForConditionalGeneration", "LlamaForCausalLM"),
            ("PhiForCausalLM", "Phi3ForCausalLM"),
            ("Gemma3nForConditionalGeneration", "Gemma3ForConditionalGeneration"),
            ("GPTNeoForCausalLM", "GPTJForCausalLM"),
            ("GPT2LMHeadModel", "GPTJForCausalLM"),
            ("", "LlamaForCausalLM"),
        ] {
            assert_eq!(nearest(name), want, "{name:?}");
        }
    }
}
