//! `hub_token_places`.

use std::sync::Arc;

use hub::TokenPlace;
use types::ApiError;

pub use super::clear_token::Input;
use crate::Api;

/// The places, in the order in which they count.
pub type Output = Vec<TokenPlace>;

/// No token is told, only where there is one.
pub async fn run(api: &Arc<Api>, _input: Input) -> Result<Output, ApiError> {
    Ok(api.tokens().places().await?)
}
