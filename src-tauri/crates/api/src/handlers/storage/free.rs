//! `storage_free`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError, SpareKind,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::{Api, Topic};

fields! {
    /// Something that `storage_usage` tells is no longer needed.
    pub struct Input {
        kind: SpareKind, Kind::Choice { values: SpareKind::NAMES }, Fallback::Required, "What kind of thing it is.";
        id: String, Kind::Text, Fallback::Required, "Its id among those of its kind.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true: a failure is an error.
    pub success: bool,
    /// What it took on the disk, in bytes.
    pub freed_bytes: u64,
}

/// Only what is listed is deleted: 404 for anything else, and for what has come to be needed since.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let Input { kind, id } = input;
    let _free = match kind {
        // One that lies in memory is taken out of there first.
        SpareKind::BaseModel => Some(api.playground().release(&id).await?),
        _ => None,
    };
    let (store, name) = (api.store_handle(), id.clone());
    let freed_bytes = crate::blocking(move || store.free(kind, &name)).await??;
    let topic = if kind == SpareKind::BaseModel { Topic::Models } else { Topic::Runs };
    api.announce(topic, id.as_str());
    Ok(Output { success: true, freed_bytes })
}
