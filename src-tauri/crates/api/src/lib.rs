//! What the app can do, for every face it has: start and follow runs, chat, look at the machine.
//!
//! It knows no window and computes on no tensor. Whatever does runs in an engine process, reached over its standard
//! streams. Every failure is an [`ApiError`] with the documented status.

mod chat;
mod detect;
mod job;
mod launcher;
mod models;
mod run;

pub use chat::{ChatEngine, ChatModel, Generation, LoadedModel, Piece};
pub use detect::Detected;
pub use launcher::{ENGINE_VARIABLE, Launcher, Local};
pub use models::ModelDetails;
pub use run::ActiveRun;

use std::sync::Arc;

use store::{Resources, Store};
use types::ApiError;

/// The app without its face.
pub struct Api {
    store: Arc<Store>,
    resources: Resources,
    launcher: Box<dyn Launcher>,
}

impl Api {
    /// Puts the parts together.
    pub fn new(store: Store, resources: Resources, launcher: Box<dyn Launcher>) -> Self {
        Self { store: Arc::new(store), resources, launcher }
    }

    /// Models, runs and the session.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The files that ship with the app.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }
}

/// Runs `work`, which waits for the disk, beside the async tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}
