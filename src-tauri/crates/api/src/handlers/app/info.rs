//! `app_info`.

use std::{path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use store::OpenApp;
use types::ApiError;

pub use super::health::Input;
use crate::Api;

/// What this program is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always `ModelForge`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `linux`, `macos` or `windows`.
    pub os: String,
    /// The processor's kind, such as `x86_64`.
    pub arch: String,
    /// The folder of models, runs and the database.
    pub home: PathBuf,
    /// Where a damaged database was kept when it was made anew on this start.
    pub damaged_database: Option<PathBuf>,
    /// Another app that has the same data folder open. Both show the same.
    pub other_app: Option<OpenApp>,
}

/// Tells what a report of a problem needs.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(Output {
        name: "ModelForge".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        os: std::env::consts::OS.into(),
        arch: std::env::consts::ARCH.into(),
        home: api.store().home().path().to_owned(),
        damaged_database: api.store().moved_aside().map(ToOwned::to_owned),
        other_app: api.other_app(),
    })
}
