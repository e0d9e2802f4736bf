//! `models_delete`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
use crate::Api;
pub use crate::handlers::Done as Output;

/// A model that answers right now is refused; one that only lies in memory is taken out of there first.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let id = input.model_id;
    // Asked first: an id that nothing has is not in use either.
    api.store().model(&id)?;
    let _free = api.playground().release(&id).await?;
    let store = api.store_handle();
    let folder = id.clone();
    crate::blocking(move || store.delete_model(&folder)).await??;
    Ok(Output::new(format!("Model {id} deleted successfully")))
}
