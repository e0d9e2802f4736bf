//! What the app can do, for every face it has: start and follow runs, chat, look at the machine.
//!
//! It knows no window and computes on no tensor. Whatever does runs in an engine process, reached over its standard
//! streams. Every failure is an [`ApiError`] with the documented status.

mod again;
mod base;
mod changes;
mod chat;
mod datasets;
mod detect;
mod estimate;
mod export;
mod fallback;
mod fitness;
pub mod handlers;
mod hub;
mod job;
mod launcher;
mod models;
mod openapi;
mod operation;
mod operations;
mod playground;
mod probe;
mod queue;
mod room;
mod run;
mod runner;
mod schemas;
mod typescript;
mod upload;

pub use changes::{Change, Topic};
pub use chat::{ChatEngine, ChatModel, Generation, LoadedModel, Piece, ask};
pub use detect::Detected;
pub use estimate::{Estimate, OnProcessor};
pub use export::Export;
pub use launcher::{ComputesOn, ENGINE_VARIABLE, Launcher, Local};
pub use models::ModelDetails;
pub use openapi::openapi;
pub use operation::{Item, Items, Method, Operation, Place};
pub use operations::OPERATIONS;
pub use run::ActiveRun;
pub use typescript::typescript;
pub use upload::{UPLOAD_PATH, Upload, UploadInput, UploadedDataset};

use std::sync::{Arc, OnceLock};

use ::hub::{Environment, Offline, TokenPlaces, Tokens};
use hardware::{Choice, Hardware, LoadMeter};
use store::{OpenApp, Resources, Store};
use types::ApiError;

/// The app without its face.
pub struct Api {
    store: Arc<Store>,
    resources: Resources,
    launcher: Arc<dyn Launcher>,
    tokens: Tokens,
    offline: Offline,
    runner: runner::Runner,
    playground: playground::Playground,
    changes: changes::Changes,
    load: Arc<LoadMeter>,
    /// What this process is where it stays open.
    open_app: OnceLock<OpenApp>,
    /// Held while this machine's speed is measured.
    calibrating: tokio::sync::Mutex<()>,
}

impl Api {
    /// Puts the parts together.
    pub fn new(store: Store, resources: Resources, launcher: Box<dyn Launcher>) -> Self {
        let tokens = Tokens::new(TokenPlaces {
            keychain: true,
            file: Some(store.home().path().join("hub_token")),
            environment: Environment::read(),
        });
        let changes = changes::Changes::default();
        // Settings that cannot be read are told when they are asked for.
        let setting = store.settings().unwrap_or_default().compute_on;
        launcher.choose(Choice::of(&setting));
        Self {
            store: Arc::new(store),
            resources,
            launcher: launcher.into(),
            tokens,
            offline: Default::default(),
            runner: Default::default(),
            playground: playground::Playground::new(changes.clone()),
            changes,
            load: Default::default(),
            open_app: OnceLock::new(),
            calibrating: Default::default(),
        }
    }

    /// Models, runs and the session.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The same, for work that outlives the caller.
    pub(crate) fn store_handle(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// The files that ship with the app.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Stays open on the data folder, with pages at `address` if they are served: begins the runs that wait, and tells of
    /// another app that has the folder open already.
    ///
    /// # Errors
    /// When the data folder cannot be written.
    pub fn open(self: &Arc<Self>, address: Option<String>) -> Result<Option<OpenApp>, ApiError> {
        let me = OpenApp { pid: std::process::id(), address, since: types::id::now_rfc3339() };
        let other = self.store.claim(self.open_app.get_or_init(|| me))?;
        self.keep_queue();
        Ok(other)
    }

    /// Another app that has the data folder open.
    pub(crate) fn other_app(&self) -> Option<OpenApp> {
        // What cannot be found out is not told.
        self.open_app.get().and_then(|me| self.store.claim(me).ok().flatten())
    }

    /// What this machine has.
    pub async fn hardware(&self) -> Result<Hardware, ApiError> {
        let home = self.store.home().path().to_owned();
        let place = self.computes_on().await?;
        let card = if let ComputesOn::Card(card) = place { Some(card) } else { None };
        blocking(move || Hardware::detect(&home, card)).await
    }

    /// Where an engine that is started now computes.
    pub(crate) async fn computes_on(&self) -> Result<ComputesOn, ApiError> {
        let launcher = Arc::clone(&self.launcher);
        blocking(move || launcher.computes_on()).await
    }

    /// Has engines compute where a setting says, from the next one on.
    pub(crate) fn compute_on(&self, setting: &str) {
        self.launcher.choose(Choice::of(setting));
    }
}

/// Runs `work`, which waits for the disk, beside the async tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}
