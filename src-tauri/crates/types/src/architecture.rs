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
}

const fn causal(name: &'static str) -> Architecture {
    Architecture { name, kind: ModelKind::Causal, tasks: Task::ALL }
}

/// Every architecture that can be trained.
pub const TRAINABLE: &[Architecture] = &[causal("LlamaForCausalLM"), causal("MistralForCausalLM")];

/// The architecture of this name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    TRAINABLE.iter().find(|architecture| architecture.name == name)
}
