//! `hub_whoami`.

use std::sync::Arc;

use hub::{Account, TokenSource};
use schemars::JsonSchema;
use serde::Serialize;
use types::ApiError;

pub use super::clear_token::Input;
use crate::Api;

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// Where the token in use comes from; `none` where nobody is signed in.
    pub source: TokenSource,
    /// The account of the token; null where nobody is signed in.
    pub account: Option<Account>,
}

/// Nobody being signed in is an answer, not an error.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let source = api.tokens().source().await?;
    let account = match source {
        TokenSource::None => None,
        _ => Some(api.hub()?.whoami().await?),
    };
    Ok(Output { source, account })
}
