//! The REST face of the app and its pages, on this machine only unless asked: routes derived from the table of
//! operations, streams as server-sent events, the page that documents them, and the user interface.
//!
//! What an operation does is not known here. There is no TLS: who serves other machines puts a proxy before it.

mod answer;
mod connection;
mod error;
mod guard;
mod pages;
mod patient;
mod request;
mod routes;
mod token;
mod upload;

pub use error::ServeError;
pub use token::{TOKEN_VARIABLE, Token};

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use api::Api;
use axum::Router;
use tokio::{
    net::{TcpListener, lookup_host},
    sync::watch,
    task::JoinHandle,
};

use crate::guard::Guard;

/// Where and for whom to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The address or name to listen on. Anything but a loopback address needs a token.
    pub host: String,
    /// The port; 0 picks a free one.
    pub port: u16,
    /// What every request to the API must carry.
    pub token: Option<Token>,
    /// What a client may use up.
    pub limits: Limits,
}

impl Default for ServeOptions {
    fn default() -> Self {
        let host = IpAddr::from(Ipv4Addr::LOCALHOST).to_string();
        Self { host, port: 8000, token: None, limits: Limits::default() }
    }
}

/// What a client may use up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The time from a connection's begin, or the answer before, to the end of a request's head.
    pub head: Duration,
    /// The time that a request's body may take.
    pub body: Duration,
    /// How long a client may leave what it is sent unread.
    pub unread: Duration,
    /// The most bytes of a request's body.
    pub body_bytes: usize,
    /// The time that a dataset may take to be sent; between two pieces of it, [`Limits::body`] may pass.
    pub upload: Duration,
    /// The most bytes of a dataset that is sent.
    pub upload_bytes: u64,
    /// The most bytes of a request's head.
    pub head_bytes: usize,
    /// Connections at once; more wait until one ends.
    pub connections: usize,
    /// A stream in which nothing happens says so this often, so that nobody takes it for dead.
    pub keep_alive: Duration,
    /// How long a shutdown waits for answers that are under way.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            unread: Duration::from_secs(30),
            body_bytes: 4 << 20,
            upload: Duration::from_secs(2 * 60 * 60),
            upload_bytes: 4 << 30,
            head_bytes: 64 << 10,
            connections: 512,
            keep_alive: Duration::from_secs(15),
            grace: Duration::from_secs(3),
        }
    }
}

/// A server that answers. Dropping it shuts it down in the background.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// What all connections have in common.
struct Shared {
    guard: Guard,
    token: Option<Token>,
    limits: Limits,
    router: Router,
}

/// Listens, and answers from now on.
///
/// # Errors
/// [`ServeError`]: the address cannot be had, or it is open to other machines and there is no token.
pub async fn serve(api: Arc<Api>, options: ServeOptions) -> Result<Server, ServeError> {
    let ServeOptions { host, port, token, limits } = options;
    let address = resolve(&host, port).await?;
    if token.is_none() && !address.ip().to_canonical().is_loopback() {
        return Err(ServeError::NeedsToken { host });
    }
    let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { port },
        _ => ServeError::Bind { address, source },
    })?;
    let address = listener.local_addr().map_err(|source| ServeError::Bind { address, source })?;
    let (closing, closes) = watch::channel(false);
    let router = routes::router(api, &limits, closes.clone());
    let shared = Shared { guard: Guard::new(&host, address.port()), token, limits, router };
    let accepting = tokio::spawn(connection::accept(listener, Arc::new(shared), closes));
    Ok(Server { address, closing, accepting })
}

impl Server {
    /// Where it listens, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for a browser.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more requests, ends streams, waits [`Limits::grace`] for answers that are under way, and is gone. Runs go
    /// on: their engines are processes of their own.
    pub async fn shutdown(self) {
        self.closing.send_replace(true);
        // The task ends by itself; a panic in it has ended it too.
        self.accepting.await.ok();
    }
}

/// The first address of a host, IPv4 before IPv6: what most people mean by `localhost`.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, ServeError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let unknown = |source| ServeError::UnknownHost { host: host.to_owned(), source };
    let found = lookup_host((bare, port)).await.map_err(unknown)?;
    found
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| unknown(io::Error::new(io::ErrorKind::NotFound, "it has no address")))
}

/// Waits until the server shuts down.
async fn closed(closes: &mut watch::Receiver<bool>) {
    // A sender that is gone is a server that was dropped.
    closes.wait_for(|closing| *closing).await.ok();
}
