//! Conversations with models, each kept whole. A conversation outlives its model.

use rusqlite::{Connection, OptionalExtension, Result, Row, named_params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{GenerateParams, GenerateStats, Message};

use super::{from_json, signed, to_json};

pub(crate) const CREATE: &str = "
CREATE TABLE conversations (
    id            TEXT PRIMARY KEY,
    title         TEXT NOT NULL,
    model         TEXT NOT NULL,
    system_prompt TEXT,
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    message_count INTEGER NOT NULL,
    params        TEXT NOT NULL CHECK (json_valid(params)),
    messages      TEXT NOT NULL CHECK (json_valid(messages))
) STRICT;
CREATE INDEX conversations_by_time ON conversations (updated_at);
";

/// One conversation in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConversationRow {
    /// `chat_YYYYMMDD_HHMMSS`.
    pub id: String,
    /// What people see.
    pub title: String,
    /// The model talked to: its id, or its name where it is no finished model.
    pub model: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// When it was last written, RFC 3339 UTC.
    pub updated_at: String,
    /// How many messages it has.
    pub message_count: u64,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationMessage {
    /// Who says what.
    #[serde(flatten)]
    pub message: Message,
    /// What generating it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<GenerateStats>,
}

/// A conversation with its messages.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Conversation {
    /// What the list shows.
    #[serde(flatten)]
    pub row: ConversationRow,
    /// Instructions that stand before the messages.
    pub system_prompt: Option<String>,
    /// How answers are generated.
    pub params: GenerateParams,
    /// From the first to the last.
    pub messages: Vec<ConversationMessage>,
}

/// A conversation as it is handed in to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationDraft {
    /// The conversation to replace; without it, a new one is made.
    pub id: Option<String>,
    /// What people see; without it, the beginning of the person's first message.
    pub title: Option<String>,
    /// The model talked to: its id or its name.
    pub model: String,
    /// Instructions that stand before the messages.
    pub system_prompt: Option<String>,
    /// How answers are generated.
    pub params: GenerateParams,
    /// From the first to the last.
    pub messages: Vec<ConversationMessage>,
}

/// All rows, the one written last first.
pub(crate) fn all(db: &Connection) -> Result<Vec<ConversationRow>> {
    db.prepare(
        "SELECT id, title, model, created_at, updated_at, message_count FROM conversations
         ORDER BY updated_at DESC, id DESC",
    )?
    .query_map([], read_row)?
    .collect()
}

/// One conversation whole.
pub(crate) fn get(db: &Connection, id: &str) -> Result<Option<Conversation>> {
    let read = |row: &Row<'_>| {
        Ok(Conversation {
            row: read_row(row)?,
            system_prompt: row.get("system_prompt")?,
            params: from_json(row, "params")?,
            messages: from_json(row, "messages")?,
        })
    };
    db.query_row("SELECT * FROM conversations WHERE id = ?1", [id], read).optional()
}

/// When the conversation was made, if it is there.
pub(crate) fn created_at(db: &Connection, id: &str) -> Result<Option<String>> {
    db.query_row("SELECT created_at FROM conversations WHERE id = ?1", [id], |row| row.get(0)).optional()
}

/// Adds a conversation, or replaces the one with its id.
pub(crate) fn put(db: &Connection, conversation: &Conversation) -> Result<()> {
    let Conversation { row, system_prompt, params, messages } = conversation;
    db.execute(
        "INSERT OR REPLACE INTO conversations VALUES (:id, :title, :model, :system_prompt, :created_at,
         :updated_at, :message_count, :params, :messages)",
        named_params! {
            ":id": row.id, ":title": row.title, ":model": row.model, ":system_prompt": system_prompt,
            ":created_at": row.created_at, ":updated_at": row.updated_at,
            ":message_count": signed(row.message_count), ":params": to_json(params)?,
            ":messages": to_json(messages)?,
        },
    )?;
    Ok(())
}

/// Takes a conversation out; whether it was there.
pub(crate) fn remove(db: &Connection, id: &str) -> Result<bool> {
    Ok(db.execute("DELETE FROM conversations WHERE id = ?1", [id])? > 0)
}

fn read_row(row: &Row<'_>) -> Result<ConversationRow> {
    let message_count: i64 = row.get("message_count")?;
    Ok(ConversationRow {
        id: row.get("id")?,
        title: row.get("title")?,
        model: row.get("model")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        message_count: message_count.unsigned_abs(),
    })
}
