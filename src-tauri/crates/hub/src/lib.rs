//! The Hugging Face Hub: who one is there, what a repository is, downloading it and pushing to it.
//!
//! A download goes over several connections, is resumed where it stopped and is not believed until its hash is right; it
//! lands in the cache folder that the Python tools share. A push touches no repository that has files, unless told to. The access token is kept in
//! the system's keychain ([`Tokens`]) and is sent to the Hub's own address alone.
//!
//! Not here: Xet, the Hub's deduplicating storage. Repositories stored so are served over plain HTTP too, and take
//! uploads by Git LFS.

mod account;
mod cache;
mod download;
mod environment;
mod error;
mod http;
mod info;
mod keychain;
mod lfs;
mod partial;
mod push;
mod repo;
mod select;
mod token;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use account::Account;
pub use cache::note_main;
pub use environment::{Environment, TOKEN_VARIABLES};
pub use error::{HubError, Inaccessible};
pub use info::{ModelInfo, RepoFile};
pub use push::{Push, Pushed};
pub use repo::check_repo_name;
pub use token::{PlaceState, Token, TokenPlace, TokenPlaces, TokenSource, Tokens};

/// The public Hub.
pub const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// How to reach a Hub. [`HubOptions::from_environment`] gives what the user's environment says.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The address of the Hub, such as <https://huggingface.co>.
    pub endpoint: String,
    /// Refuse every request before a connection is opened.
    pub offline: Offline,
    /// Where the access token comes from.
    pub tokens: Tokens,
    /// How long to wait before a failed request is repeated for the first time; doubled each time after that.
    pub first_delay: Duration,
    /// How long a connection may be silent before it counts as broken.
    pub silence: Duration,
}

/// Whether to stay away from the network. Clones share it: what is under way ends when one of them is switched on.
#[derive(Debug, Clone, Default)]
pub struct Offline(Arc<AtomicBool>);

impl Offline {
    /// Switches it.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    /// Whether every connection is refused.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<bool> for Offline {
    fn from(on: bool) -> Self {
        Self(Arc::new(AtomicBool::new(on)))
    }
}

impl HubOptions {
    /// What `HF_ENDPOINT` and `HF_HUB_OFFLINE` say, else the public Hub, online.
    pub fn from_environment(environment: &Environment, tokens: Tokens) -> Self {
        Self {
            endpoint: environment.endpoint.clone().unwrap_or_else(|| PUBLIC_ENDPOINT.into()),
            offline: environment.offline.into(),
            tokens,
            first_delay: Duration::from_millis(500),
            silence: Duration::from_secs(30),
        }
    }
}

/// A client of one Hub. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Hub {
    http: http::Http,
}

impl Hub {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`HubError::BadEndpoint`] where the address is not an `http` or `https` one.
    pub fn new(options: HubOptions) -> Result<Self, HubError> {
        Ok(Self { http: http::Http::new(options)? })
    }

    /// The address of the Hub, without a slash at its end.
    pub fn endpoint(&self) -> &str {
        self.http.endpoint()
    }

    /// Whether every request is refused.
    pub fn offline(&self) -> bool {
        self.http.offline()
    }

    /// Where the access token comes from.
    pub fn tokens(&self) -> &Tokens {
        self.http.tokens()
    }
}

/// How far a download or a push is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there, of all files together; what was there before counts.
    pub bytes_done: u64,
    /// Bytes of all files together.
    pub bytes_total: u64,
    /// The file that is being transferred, as the repository names it.
    pub file: String,
}

/// Is told about progress; at most a few times a megabyte.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);
