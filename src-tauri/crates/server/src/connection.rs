//! Connections: how many at once, how long a client may take, and how they end.

use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{Shared, answer, closed, pages, patient::Patient};

/// The pause after a connection could not be taken, as when the system has no file handle left.
const BREATH: Duration = Duration::from_millis(100);

/// Takes connections until the server closes; then those that are there get some time to end.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>, mut closes: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(shared.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closed(&mut closes) => break,
            Some(_) = connections.join_next() => {}
            (stream, slot) = next(&listener, &slots) => {
                connections.spawn(talk(stream, slot, Arc::clone(&shared), closes.clone()));
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(shared.limits.grace, all).await.is_err() {
        connections.shutdown().await;
    }
}

/// The next connection, as soon as there may be one more. Safe to cancel.
async fn next(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(_) => sleep(BREATH).await,
        }
    }
}

/// Answers one connection's requests.
async fn talk(
    stream: TcpStream,
    _slot: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    mut closes: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else { return };
    // Events are small, and each is to arrive at once.
    stream.set_nodelay(true).ok();
    let limits = shared.limits.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, local.ip(), request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.unread)), service);
    let mut connection = pin!(connection);
    // An error here is a client that went away, was too slow or does not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closed(&mut closes) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}

/// The answer to one request. Pages hold no secret and show the field for the token; all else needs the token.
async fn respond(shared: &Shared, local: IpAddr, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let response = if let Err(error) = shared.guard.check(&parts, local) {
        answer::error(error)
    } else if let Some(page) = pages::answer(&parts.method, parts.uri.path()) {
        page
    } else if shared.token.as_ref().is_some_and(|token| !token.is_in(&parts.headers)) {
        answer::unauthorized()
    } else {
        match shared.router.clone().oneshot(Request::from_parts(parts, body)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    answer::secured(response)
}
