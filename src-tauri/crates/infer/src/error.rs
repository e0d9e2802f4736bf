//! What can go wrong when text is generated.

/// No text can be generated.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The conversation cannot be put through the chat template, or the text cannot be tokenized.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// There is nothing to go on from.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt} tokens and the model's context is {context}: shorten it to at most {} tokens",
        .context - 1
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens the model can see.
        context: usize,
    },
    /// A model that points at answers was not asked about a text.
    #[error(
        "this model points at the answer to a question in a text: give a question and a context, in one message as \
         \"Context: …\", an empty line, \"Question: …\""
    )]
    NoQuestion,
    /// A sampling setting is out of range.
    #[error("{field} {problem}")]
    Params {
        /// The setting.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The model's output is not a number, so no token is likelier than another.
    #[error("the model computed logits that are not numbers: its weights, or its adapter's, are damaged")]
    NotFinite,
    /// A model that generates no text.
    #[error("{0} models write no text")]
    WritesNothing(String),
    /// The computation failed.
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}
