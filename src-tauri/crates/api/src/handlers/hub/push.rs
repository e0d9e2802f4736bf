//! `hub_push`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::{
    Api,
    hub::{ModelPush, Outcome},
};

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

/// A repository that has files already is left as it is.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let push = ModelPush {
        model_id: input.model_id,
        repo: input.repo_name,
        private: input.private,
        merged: false,
        into_existing: false,
    };
    let pushed = match api.push_model(push, &mut |_| {}).await? {
        Outcome::Pushed(pushed) => pushed,
        Outcome::Exists(error) => return Err(error.into()),
    };
    Ok(Output {
        success: true,
        message: "Model pushed to HuggingFace Hub successfully".into(),
        repo_url: pushed.url,
    })
}
