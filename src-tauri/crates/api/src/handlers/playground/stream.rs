//! `playground_stream`.

use std::sync::Arc;

use types::{
    ApiError, FieldError, GenerateParams, Message, Role,
    engine::PromptInput,
    field::{Fallback, Field, JsonType, Kind},
    fields,
};

pub use crate::Piece as Output;
use crate::{Api, Item, Items, ask, operation, playground::Question};

fields! {
    /// A conversation and how to go on with it.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "A finished model's id or name, or a base model.";
        messages: Vec<Message>, Kind::Json { of: JsonType::of::<Vec<Message>>() }, Fallback::Required, "The conversation so far; its last message is the person's.";
        params: Option<GenerateParams>, Kind::Json { of: JsonType::of::<GenerateParams>() }, Fallback::Found("the model's usual way of answering"), "How the next token is chosen and when to stop.";
        context: Option<String>, Kind::LongText, Fallback::Found("none"), "The text that holds the answer to the last message, for a model that answers questions about a text.";
        without_adapter: bool, Kind::Bool, Fallback::Bool(false), "Answers as the base model does, to compare.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Loads the model if it is not in memory, and streams. A caller that goes away ends the answer.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Items, ApiError> {
    let model = api.chat_model(&input.model_id)?;
    let mut messages = input.messages;
    match messages.last_mut() {
        Some(last) if last.role == Role::User && !last.content.trim().is_empty() => {
            last.content = ask(model.task, input.context.as_deref(), &last.content);
        }
        _ => {
            let msg = "must end with a message of the person (role user) that is not blank";
            return Err(ApiError::invalid(vec![FieldError::value("messages", msg)]));
        }
    }
    let question = Question {
        prompt: PromptInput::Messages(messages),
        params: input.params.unwrap_or_default(),
        without_adapter: input.without_adapter,
    };
    let mut pieces = api.answer(model, question).await?;
    let (sender, items) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            let item = piece.and_then(|piece| Ok(Item { id: None, data: operation::answer(&piece)? }));
            // Leaving drops `pieces`, which cancels the answer.
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    Ok(items)
}
