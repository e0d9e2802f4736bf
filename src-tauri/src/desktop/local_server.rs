//! The server that other programs of this machine can use while the window is open. It is off until the person starts it,
//! listens on this machine only, and gives a new key each time.

use std::sync::Arc;

use api::Api;
use rand::RngExt;
use serde::Serialize;
use server::{ServeOptions, Server, Token};
use tokio::sync::Mutex;
use types::ApiError;

/// The server, where it runs.
#[derive(Default)]
pub struct LocalServer(Mutex<Option<(Server, String)>>);

/// Whether it runs, and how to reach it.
#[derive(Serialize)]
pub struct ServerStatus {
    running: bool,
    url: Option<String>,
    token: Option<String>,
}

impl LocalServer {
    pub async fn status(&self) -> ServerStatus {
        let running = self.0.lock().await;
        let (url, token) = match &*running {
            Some((server, token)) => (Some(server.url()), Some(token.clone())),
            None => (None, None),
        };
        ServerStatus { running: url.is_some(), url, token }
    }

    /// Starts it on this port, where it does not run yet; 0 picks a free one.
    pub async fn start(&self, api: Arc<Api>, port: u16) -> Result<(), ApiError> {
        let mut running = self.0.lock().await;
        if running.is_none() {
            let key = format!("{:032x}", rand::rng().random::<u128>());
            let token = Token::new(key.clone()).map_err(|error| ApiError::internal(error.to_string()))?;
            let options = ServeOptions { port, token: Some(token), ..ServeOptions::default() };
            let server = server::serve(api, options)
                .await
                .map_err(|error| ApiError::bad_request(format!("The server cannot start: {error}")))?;
            *running = Some((server, key));
        }
        Ok(())
    }

    pub async fn stop(&self) {
        if let Some((server, _)) = self.0.lock().await.take() {
            server.shutdown().await;
        }
    }
}
