//! `hub_set_token`.

use std::sync::Arc;

use hub::TokenSource;
use schemars::JsonSchema;
use serde::Serialize;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::{Api, Topic};

fields! {
    /// An access token.
    pub struct Input {
        token: String, Kind::Text, Fallback::Required, "The access token.";
        allow_file: bool, Kind::Bool, Fallback::Bool(false), "Whether it may be kept in a file that only its owner can read, where the system has no keychain.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Where the token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Always true.
    pub success: bool,
    /// A sentence for the person.
    pub message: String,
    /// Where the token in use comes from.
    pub source: TokenSource,
}

/// The token is never shown again.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let source = api.tokens().set(&input.token, input.allow_file).await?;
    api.announce(Topic::Hub, None);
    let message = match source {
        TokenSource::Keychain => "The token is kept in the system's keychain",
        TokenSource::File => "The token is kept in a file of the app's data folder",
        _ => "This system has no keychain: the token is kept until the app ends",
    };
    Ok(Output { success: true, message: message.into(), source })
}
