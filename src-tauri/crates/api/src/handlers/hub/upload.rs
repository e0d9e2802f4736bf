//! `hub_upload`.

use std::sync::Arc;

use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

pub use crate::hub::PushItem as Output;
use crate::{Api, Items, hub::ModelPush};

fields! {
    /// A finished model, what of it is pushed, and where it goes.
    pub struct Input {
        model_id: String, Kind::Text, Fallback::Required, "The model's id.";
        repo_name: String, Kind::Text, Fallback::Required, "The repository, owner/name.";
        private: bool, Kind::Bool, Fallback::Bool(false), "Whether only its owners see it; a repository that is there stays as it is.";
        merged: bool, Kind::Bool, Fallback::Bool(false), "Whether the whole model goes there, the adapter merged into the base model's weights, and not the adapter alone.";
        into_existing: bool, Kind::Bool, Fallback::Bool(false), "Whether a repository that has files already may be added to; files of the same names get a new version there.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// A repository that has files already is left as it is unless it is named as one to push into. A caller that goes away
/// ends the push; the next one goes on with what has arrived.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Items, ApiError> {
    let push = ModelPush {
        model_id: input.model_id,
        repo: input.repo_name,
        private: input.private,
        merged: input.merged,
        into_existing: input.into_existing,
    };
    api.push_and_tell(push).await
}
