//! A server that speaks the protocol of the Hugging Face Hub, for tests: nothing here is part of the product.
//!
//! It keeps everything in memory, under the hashes that git and Git LFS give it, and means what it says: tokens, roles
//! and gates are checked, an LFS object is taken only with the right SHA-256. Large files are served, and taken, at a
//! second address, as the Hub's own storage is; that address refuses requests that carry an access token.

mod auth;
mod files;
mod info;
mod lfs;
mod push;
mod state;

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post, put},
};
use tokio::sync::oneshot;

use state::{Content, Repo, World};
pub use state::{Role, Seen, Trouble, User, Visibility, tiny_safetensors};

const LARGEST_BODY: usize = 1 << 30;

/// A running server; it ends when this is dropped.
pub struct HubServer {
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    world: Arc<Mutex<World>>,
    /// The Hub's own address.
    pub url: String,
    /// The address of its storage.
    pub storage: String,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HubServer {
    /// Starts an empty Hub on two free ports of this machine.
    ///
    /// # Errors
    /// No free port, or no thread.
    pub fn start() -> io::Result<Self> {
        let (hub, storage) = (listen()?, listen()?);
        let shared = Shared {
            world: Arc::default(),
            url: format!("http://{}", hub.local_addr()?),
            storage: format!("http://{}", storage.local_addr()?),
        };
        let (stop, stopped) = oneshot::channel();
        let served = shared.clone();
        // A thread of its own, so that tests without an async runtime can use it too.
        let thread = std::thread::Builder::new().name("hub-server".into()).spawn(move || {
            let _ = serve(hub, storage, served, stopped);
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The endpoint that clients are given.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Adds an account.
    pub fn add_user(&self, user: User) {
        self.shared.world().users.push(user);
    }

    /// Adds a repository with these files, each kept as the Hub would keep it.
    pub fn add_repo(&self, id: &str, visibility: Visibility, files: &[(&str, &[u8])]) {
        let mut world = self.shared.world();
        world.repos.insert(id.into(), Repo::new(visibility));
        let changes = files.iter().map(|(path, bytes)| {
            let entry = if state::is_large(path, bytes.len() as u64) {
                world.keep_object(bytes.to_vec().into())
            } else {
                world.keep_blob(bytes.to_vec())
            };
            (path.to_string(), Some(entry))
        });
        let changes = changes.collect();
        world.commit(id, "Add files", changes);
    }

    /// The same with every file of a folder.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn add_folder(&self, id: &str, visibility: Visibility, folder: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
        }
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.add_repo(id, visibility, &files);
        Ok(())
    }

    /// Adds a file to a repository, in Git LFS: `head`, then zeros up to `size`, which are not kept in memory.
    pub fn add_sparse_file(&self, id: &str, path: &str, head: &[u8], size: u64) {
        let content = Content::with_zeros(head, size);
        let mut world = self.shared.world();
        let entry = world.keep_object(content);
        world.commit(id, "Add a file", vec![(path.into(), Some(entry))]);
    }

    /// Makes a repository behave badly from now on, in place of what it did before.
    pub fn trouble(&self, id: &str, troubles: &[Trouble]) {
        if let Some(repo) = self.shared.world().repos.get_mut(id) {
            repo.troubles = troubles.to_vec();
        }
    }

    /// A file's content on the main branch; none where the repository or the file is missing.
    pub fn file(&self, id: &str, path: &str) -> Option<Vec<u8>> {
        let world = self.shared.world();
        let entry = world.repos.get(id)?.tree("main")?.get(path)?.clone();
        world.content(&entry).map(|content| content.part(0, content.size).to_vec())
    }

    /// The names of a repository's files on the main branch; none where it is missing.
    pub fn files(&self, id: &str) -> Option<Vec<String>> {
        Some(self.shared.world().repos.get(id)?.tree("main")?.keys().cloned().collect())
    }

    /// Whether a repository is private; none where it is missing.
    pub fn is_private(&self, id: &str) -> Option<bool> {
        Some(matches!(self.shared.world().repos.get(id)?.visibility, Visibility::Private))
    }

    /// The requests so far, in the order they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.world().seen.clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.world().seen.clear();
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(
    hub: TcpListener,
    storage: TcpListener,
    shared: Shared,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let hub = axum::serve(tokio::net::TcpListener::from_std(hub)?, hub_routes(shared.clone()));
        let storage = axum::serve(tokio::net::TcpListener::from_std(storage)?, storage_routes(shared));
        tokio::select! {
            _ = hub => {}
            _ = storage => {}
            _ = stopped => {}
        }
        Ok(())
    })
}

fn hub_routes(shared: Shared) -> Router {
    Router::new()
        .route("/api/whoami-v2", get(info::whoami))
        .route("/api/models/{owner}/{name}", get(info::model))
        .route("/api/models/{owner}/{name}/revision/{revision}", get(info::model_at))
        .route("/api/models/{owner}/{name}/tree/{revision}", get(info::tree))
        .route("/api/models/{owner}/{name}/preupload/{revision}", post(push::preupload))
        .route("/api/models/{owner}/{name}/commit/{revision}", post(push::commit))
        .route("/api/repos/create", post(push::create))
        .route("/api/validate-yaml", post(push::validate_yaml))
        .route("/{owner}/{name}/resolve/{revision}/{*path}", get(files::resolve))
        .route("/{owner}/{name}/info/lfs/objects/batch", post(lfs::batch))
        .route("/{owner}/{name}/info/lfs/verify", post(lfs::verify))
        .route("/api/complete_multipart", post(lfs::complete))
        .layer(from_fn_with_state(shared.clone(), note))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(shared)
}

fn storage_routes(shared: Shared) -> Router {
    Router::new()
        .route("/objects/{oid}", get(files::object).put(lfs::take))
        .route("/objects/{oid}/{part}", put(lfs::take_part))
        .layer(from_fn_with_state(shared.clone(), note))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(shared)
}

/// Writes down each request before it is answered.
async fn note(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let seen = Seen::of(&request);
    shared.world().seen.push(seen);
    next.run(request).await
}
