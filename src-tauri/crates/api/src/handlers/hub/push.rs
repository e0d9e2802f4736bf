//! `hub_push`.

use std::sync::Arc;

use hub::Push;
use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::Api;

fields! {
    /// A finished model and where it goes.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "The model's id.";
        repo_name: String, Kind::Text, Fallback::Required, "The new repository, owner/name.";
        private: bool, Kind::Bool, Fallback::Bool(false), "Whether only its owners see it.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The repository has the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true.
    pub success: bool,
    /// A sentence for the person.
    pub message: String,
    /// The repository's page.
    pub repo_url: String,
}

/// A repository that exists already is left as it is.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let folder = api.model_folder(&input.model_id)?;
    let _in_use = api.playground().hold(&input.model_id);
    let model = api.store().model(&input.model_id)?;
    let push = Push {
        files: crate::hub::files_to_push(&folder).await?,
        folder,
        repo: input.repo_name,
        private: input.private,
        message: format!("Upload {}", model.row.name),
    };
    let pushed = api.hub()?.push(push, &mut |_| {}).await?;
    Ok(Output {
        success: true,
        message: "Model pushed to HuggingFace Hub successfully".into(),
        repo_url: pushed.url,
    })
}
