//! `playground_new`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError, GenerateParams, Message,
    engine::PromptInput,
    field::{Ends, Fallback, Field, Kind},
    fields,
};

use crate::{Api, Piece, ask, playground::Question};

/// The most tokens that one answer may have.
pub const MAX_LENGTH: i64 = 1 << 17;

fields! {
    /// A prompt and how to answer it.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "A finished model's id or name, or a base model.";
        prompt: String, Kind::LongText, Fallback::Required, "What to answer.";
        max_length: usize, Kind::Int { min: 1, max: MAX_LENGTH }, Fallback::Int(256), "The most tokens to generate.";
        temperature: f64, Kind::Float { min: 0.0, max: 10.0, ends: Ends::Both }, Fallback::Float(0.7), "0 takes the likeliest token each time; above, answers vary.";
        top_p: f64, Kind::Float { min: 0.0, max: 1.0, ends: Ends::Upper }, Fallback::Float(0.9), "Keeps the likeliest tokens whose probabilities sum to this.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Its text.
    pub generated_text: String,
    /// The prompt, as it was asked.
    pub prompt: String,
    /// Tokens of the answer.
    pub tokens_generated: usize,
    /// What it took, loading the model left out.
    pub generation_time_ms: u64,
}

/// Loads the model if it is not in memory, and answers. A caller that goes away ends the answer.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let model = api.chat_model(&input.model_id)?;
    let params = GenerateParams {
        max_new_tokens: input.max_length,
        temperature: input.temperature,
        top_p: input.top_p,
        seed: crate::playground::fresh_seed(),
        ..GenerateParams::default()
    };
    let prompt = Message::user(ask(model.task, None, &input.prompt));
    let question = Question { prompt: PromptInput::Messages(vec![prompt]), params, without_adapter: false };
    let mut pieces = api.answer(model, question).await?;
    while let Some(piece) = pieces.recv().await {
        if let Piece::Done { text, stats } = piece? {
            return Ok(Output {
                generated_text: text,
                prompt: input.prompt,
                tokens_generated: stats.tokens_generated,
                generation_time_ms: stats.generation_time_ms,
            });
        }
    }
    Err(ApiError::internal("the answer has no end"))
}
