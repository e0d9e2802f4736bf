//! What only the database holds: the session, the settings, conversations, the datasets used, calibration.

use std::path::Path;

use rusqlite::TransactionBehavior;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use types::{FieldError, Role, id};

use crate::{
    Store, StoreError,
    table::{
        calibration,
        conversations::{self, Conversation, ConversationDraft, ConversationRow},
        datasets::{self, DatasetRow},
        session::{self, Session},
        settings::{self, Settings},
    },
};

/// The most characters of a title, and how many of a message make one.
const MAX_TITLE: usize = 200;
const TITLE_OF_MESSAGE: usize = 60;

/// A dataset that was used, and whether it is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Dataset {
    /// As it was checked.
    #[serde(flatten)]
    pub row: DatasetRow,
    /// Whether the file is there now.
    pub exists: bool,
}

impl Store {
    /// What the person chose last.
    pub fn session(&self) -> Result<Session, StoreError> {
        session::read(&self.db()).map_err(|e| self.failed(e))
    }

    /// Keeps what the person chose.
    pub fn set_session(&self, session: &Session) -> Result<(), StoreError> {
        session::write(&self.db(), session).map_err(|e| self.failed(e))
    }

    /// The app's settings.
    pub fn settings(&self) -> Result<Settings, StoreError> {
        settings::read(&self.db()).map_err(|e| self.failed(e))
    }

    /// Keeps the app's settings.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a value that cannot be kept.
    pub fn set_settings(&self, settings: &Settings) -> Result<(), StoreError> {
        if let Some(problem) = settings.problem() {
            return Err(StoreError::Invalid(problem));
        }
        settings::write(&self.db(), settings).map_err(|e| self.failed(e))
    }

    /// All conversations without their messages, the one written last first.
    pub fn conversations(&self) -> Result<Vec<ConversationRow>, StoreError> {
        conversations::all(&self.db()).map_err(|e| self.failed(e))
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`StoreError::UnknownConversation`] when there is none.
    pub fn conversation(&self, id: &str) -> Result<Conversation, StoreError> {
        let found = conversations::get(&self.db(), id).map_err(|e| self.failed(e))?;
        found.ok_or_else(|| StoreError::UnknownConversation(id.to_owned()))
    }

    /// Keeps a conversation: a new one without an id, or in place of the one with its id.
    ///
    /// # Errors
    /// [`StoreError::UnknownConversation`] for an id that is not there (any more), [`StoreError::Invalid`] for a value
    /// that cannot be kept.
    pub fn put_conversation(&self, draft: ConversationDraft) -> Result<Conversation, StoreError> {
        if let Some(problem) = problem(&draft) {
            return Err(StoreError::Invalid(problem));
        }
        let title = title(&draft);
        let updated_at = id::now_rfc3339();
        let mut db = self.db();
        let failed = |e| self.failed(e);
        // Another process may look for a free id at the same moment: the look and the entry are one.
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let (id, created_at) = match draft.id {
            Some(id) => match conversations::created_at(&transaction, &id).map_err(failed)? {
                Some(created_at) => (id, created_at),
                None => return Err(StoreError::UnknownConversation(id)),
            },
            None => {
                let mut failure = None;
                let id = id::fresh("chat", |id| match conversations::created_at(&transaction, id) {
                    Ok(found) => found.is_some(),
                    Err(error) => {
                        failure = Some(error);
                        false
                    }
                });
                match failure {
                    Some(error) => return Err(failed(error)),
                    None => (id, updated_at.clone()),
                }
            }
        };
        let conversation = Conversation {
            row: ConversationRow {
                id,
                title,
                model: draft.model,
                created_at,
                updated_at,
                message_count: draft.messages.len() as u64,
            },
            system_prompt: draft.system_prompt,
            params: draft.params,
            messages: draft.messages,
        };
        conversations::put(&transaction, &conversation).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(conversation)
    }

    /// Deletes a conversation.
    ///
    /// # Errors
    /// [`StoreError::UnknownConversation`] when there is none.
    pub fn delete_conversation(&self, id: &str) -> Result<(), StoreError> {
        match conversations::remove(&self.db(), id).map_err(|e| self.failed(e))? {
            true => Ok(()),
            false => Err(StoreError::UnknownConversation(id.to_owned())),
        }
    }

    /// The datasets that were used, the one checked last first.
    pub fn datasets(&self) -> Result<Vec<Dataset>, StoreError> {
        let rows = datasets::all(&self.db()).map_err(|e| self.failed(e))?;
        let look = |row: DatasetRow| Dataset { exists: Path::new(&row.path).is_file(), row };
        Ok(rows.into_iter().map(look).collect())
    }

    /// Keeps what was found out about a dataset, in place of what was known of its path for this task.
    pub fn put_dataset(&self, row: &DatasetRow) -> Result<(), StoreError> {
        datasets::put(&self.db(), row).map_err(|e| self.failed(e))
    }

    /// Forgets a dataset; its file stays.
    ///
    /// # Errors
    /// [`StoreError::UnknownDataset`] when it is not known for this task.
    pub fn remove_dataset(&self, path: &str, task: &str) -> Result<(), StoreError> {
        match datasets::remove(&self.db(), path, task).map_err(|e| self.failed(e))? {
            true => Ok(()),
            false => Err(StoreError::UnknownDataset(path.to_owned())),
        }
    }

    /// What a device was last measured to do.
    pub fn calibration(&self, device: &str) -> Result<Option<Value>, StoreError> {
        calibration::get(&self.db(), device).map_err(|e| self.failed(e))
    }

    /// Keeps what a device was measured to do.
    pub fn set_calibration(&self, device: &str, measured: &Value) -> Result<(), StoreError> {
        calibration::put(&self.db(), device, measured).map_err(|e| self.failed(e))
    }
}

fn problem(draft: &ConversationDraft) -> Option<FieldError> {
    if draft.model.trim().is_empty() {
        return Some(FieldError::value("model", "must not be blank"));
    }
    if draft.title.as_ref().is_some_and(|title| title.chars().count() > MAX_TITLE) {
        return Some(FieldError::value("title", format!("must have at most {MAX_TITLE} characters")));
    }
    let (field, problem) = draft.params.problems().into_iter().next()?;
    Some(FieldError::value("params", format!("{field} {problem}")))
}

fn title(draft: &ConversationDraft) -> String {
    let given = draft.title.as_deref().map(str::trim).filter(|title| !title.is_empty());
    let first = draft.messages.iter().map(|m| &m.message).find(|message| message.role == Role::User);
    let line = first.and_then(|message| message.content.lines().map(str::trim).find(|line| !line.is_empty()));
    match (given, line) {
        (Some(title), _) => title.to_owned(),
        (None, Some(line)) if line.chars().count() > TITLE_OF_MESSAGE => {
            let cut: String = line.chars().take(TITLE_OF_MESSAGE - 1).collect();
            format!("{}…", cut.trim_end())
        }
        (None, Some(line)) => line.to_owned(),
        (None, None) => "New conversation".to_owned(),
    }
}
