//! `hub_clear_token`.

use std::sync::Arc;

use hub::TokenSource;
use types::ApiError;

pub use super::set_token::Output;
pub use crate::handlers::Nothing as Input;
use crate::{Api, Topic};

/// Forgets the token that was entered in the app. What the environment says stays in use.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    let source = api.tokens().clear().await?;
    api.announce(Topic::Hub, None);
    let message = match source {
        TokenSource::Environment => "The token is forgotten; the one of the environment (HF_TOKEN) is in use",
        TokenSource::PythonLogin => "The token is forgotten; the login of the Hub's Python tools is in use",
        _ => "The token is forgotten",
    };
    Ok(Output { success: true, message: message.into(), source })
}
