//! Answers: JSON, errors in their documented shape, streams, and the headers that all have.

use std::time::Duration;

use api::{Item, Items};
use axum::{
    Json,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, WWW_AUTHENTICATE,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use serde_json::json;
use tokio::sync::watch;
use types::{ApiError, error::Detail};

use crate::closed;

/// Only what this server itself serves runs or is shown, and nobody shows it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// An error as the documented JSON.
pub fn error(error: ApiError) -> Response {
    let status = StatusCode::from_u16(error.status_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({"detail": error.detail}))).into_response()
}

/// A refusal that no operation makes, with the status's own name or a sentence.
pub fn refusal(status: StatusCode, text: impl Into<String>) -> ApiError {
    ApiError { status_code: status.as_u16(), detail: Detail::Text(text.into()) }
}

/// The answer to a request without the token.
pub fn unauthorized() -> Response {
    let text = "This server needs its token: send the header Authorization: Bearer <token>.";
    let mut response = error(refusal(StatusCode::UNAUTHORIZED, text));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ModelForge\""));
    response
}

/// Items as server-sent events. An item's place in the stream is the event's id; an error is an event named `error` and
/// the last one. When the client goes, so does the stream.
pub fn events(items: Items, keep_alive: Duration, closes: watch::Receiver<bool>) -> Response {
    let events = stream::unfold((items, closes), |(mut items, mut closes)| async move {
        let item = tokio::select! {
            item = items.recv() => item?,
            () = closed(&mut closes) => return None,
        };
        Some((event(item), (items, closes)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response()
}

fn event(item: Result<Item, ApiError>) -> Result<Event, axum::Error> {
    match item {
        Ok(Item { id: Some(id), data }) => Event::default().id(id.to_string()).json_data(data),
        Ok(Item { id: None, data }) => Event::default().json_data(data),
        Err(error) => Event::default().event("error").json_data(error),
    }
}

/// The answer with the headers that all answers have.
pub fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
