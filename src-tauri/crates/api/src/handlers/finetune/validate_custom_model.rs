//! `finetune_validate_custom_model`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A repository by its name.
    pub struct Input {
        repo_name: String, Kind::Text, Fallback::Required, "A repository of the Hub, owner/name.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The repository can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true: a repository that cannot be read is an error.
    pub valid: bool,
    /// The repository as it was asked for.
    pub repo_name: String,
    /// What the Hub tells of it.
    pub model_info: RepoInfo,
}

/// What the Hub tells of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RepoInfo {
    /// The name under which the Hub keeps it.
    pub id: String,
    /// Whose it is.
    pub author: String,
    /// Downloads of the last 30 days.
    pub downloads: u64,
    /// How many accounts like it.
    pub likes: u64,
}

/// Asks the Hub, also where the model is on this machine already: what is asked for is what the Hub says.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let info = api.custom_model(&input.repo_name).await?;
    let owner = info.id.split_once('/').map_or("", |(owner, _)| owner);
    Ok(Output {
        valid: true,
        model_info: RepoInfo {
            author: info.author.unwrap_or_else(|| owner.to_owned()),
            downloads: info.downloads.unwrap_or(0),
            likes: info.likes.unwrap_or(0),
            id: info.id,
        },
        repo_name: input.repo_name,
    })
}
