//! `models_delete`.

use std::sync::Arc;

use types::ApiError;

pub use super::get::Input;
pub use crate::handlers::Done as Output;
use crate::{Api, Topic};

/// A model that answers right now is refused; one that only lies in memory is taken out of there first.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let id = input.model_id;
    // Asked first: an id that nothing has is not in use either.
    api.store().model(&id)?;
    let _free = api.playground().release(&id).await?;
    let store = api.store_handle();
    let folder = id.clone();
    crate::blocking(move || store.delete_model(&folder)).await??;
    api.announce(Topic::Models, id.as_str());
    Ok(Output::new(format!("Model {id} deleted successfully")))
}
