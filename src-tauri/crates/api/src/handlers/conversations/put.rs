//! `conversations_put`.

use std::sync::Arc;

pub use store::table::conversations::Conversation as Output;
use store::table::conversations::{ConversationDraft, ConversationMessage};
use types::{
    ApiError, GenerateParams,
    field::{Fallback, Field, JsonType, Kind},
    fields,
};

use crate::{Api, Topic};

fields! {
    /// A whole conversation.
    pub struct Input {
        id: Option<String>, Kind::Text, Fallback::Found("a new conversation"), "The conversation to replace.";
        title: Option<String>, Kind::Text, Fallback::Found("the beginning of the person's first message"), "What people see.";
        model: String, Kind::Text, Fallback::Required, "The model talked to: its id or its name.";
        system_prompt: Option<String>, Kind::LongText, Fallback::Found("none"), "Instructions that stand before the messages.";
        params: Option<GenerateParams>, Kind::Json { of: JsonType::of::<GenerateParams>() }, Fallback::Found("the usual ones"), "How answers are generated.";
        messages: Vec<ConversationMessage>, Kind::Json { of: JsonType::of::<Vec<ConversationMessage>>() }, Fallback::Required, "From the first to the last.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// 404 for an id that nothing has.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let draft = ConversationDraft {
        id: input.id,
        title: input.title,
        model: input.model,
        system_prompt: input.system_prompt,
        params: input.params.unwrap_or_default(),
        messages: input.messages,
    };
    let kept = api.store().put_conversation(draft)?;
    api.announce(Topic::Conversations, kept.row.id.as_str());
    Ok(kept)
}
