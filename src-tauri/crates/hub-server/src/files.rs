//! Serving files: small ones from the Hub itself, large ones by way of the storage address.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;

use crate::{
    Shared,
    auth::{Refusal, readable},
    info::no_revision,
    state::{Trouble, once_more},
};

/// What the storage wants in an address, as signed addresses have it.
pub(crate) const SIGNATURE: &str = "only-the-hub-gives-this";
const PIECE: usize = 64 << 10;

pub(crate) async fn resolve(
    State(shared): State<Shared>,
    Path((owner, name, revision, path)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = format!("{owner}/{name}");
    let mut world = shared.world();
    let repo = readable(&mut world, &headers, &id)?;
    let sha = repo.resolve(&revision).ok_or_else(no_revision)?.to_string();
    let entry = repo.tree(&revision).and_then(|tree| tree.get(&path)).cloned();
    let entry = entry.ok_or_else(|| Refusal::new(404, "EntryNotFound", "Entry not found"))?;
    let quoted = |text: &str| header_value(&format!("\"{text}\""));
    let mut response = match &entry.sha256 {
        Some(sha256) => {
            let to = format!("{}/objects/{sha256}?signature={SIGNATURE}&repo={id}", shared.storage);
            let mut response = StatusCode::FOUND.into_response();
            response.headers_mut().insert(LOCATION, header_value(&to));
            response.headers_mut().insert("x-linked-size", HeaderValue::from(entry.size));
            response.headers_mut().insert("x-linked-etag", quoted(sha256));
            response
        }
        None => {
            let bytes = world.content(&entry).ok_or_else(|| Refusal::new(500, "", "The content is lost"))?;
            let how = How::of(&mut world, &id, &method);
            serve(bytes, &headers, how)
        }
    };
    let headers = response.headers_mut();
    headers.insert("x-repo-commit", header_value(&sha));
    headers.insert(ETAG, quoted(entry.etag()));
    Ok(response)
}

#[derive(Deserialize)]
pub(crate) struct Signed {
    signature: Option<String>,
    repo: Option<String>,
}

impl Signed {
    /// As S3 does: an address that is not signed is refused, and so is a second way to say who one is.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<&str, Refusal> {
        if headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::new(400, "", "Only one way to authenticate is allowed"));
        }
        if self.signature.as_deref() != Some(SIGNATURE) {
            return Err(Refusal::new(403, "", "The signature does not match"));
        }
        Ok(self.repo.as_deref().unwrap_or_default())
    }
}

pub(crate) async fn object(
    State(shared): State<Shared>,
    Path(oid): Path<String>,
    Query(signed): Query<Signed>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = signed.check(&headers)?;
    let mut world = shared.world();
    let bytes = world.object(&oid).ok_or_else(|| Refusal::new(404, "", "No such object"))?;
    let how = How::of(&mut world, id, &method);
    Ok(serve(bytes, &headers, how))
}

/// How a file is served, well or badly.
#[derive(Default)]
struct How {
    drop_after: Option<u64>,
    pause: Option<Duration>,
    ignore_range: bool,
    wrong_byte: bool,
}

impl How {
    fn of(world: &mut crate::state::World, id: &str, method: &Method) -> Self {
        if method != Method::GET {
            return Self::default();
        }
        let mut how = Self::default();
        for trouble in world.repos.get_mut(id).into_iter().flat_map(|repo| &mut repo.troubles) {
            match trouble {
                Trouble::Drop { times, after } => how.drop_after = once_more(times).then_some(*after),
                Trouble::Slow(pause) => how.pause = Some(*pause),
                Trouble::IgnoreRange => how.ignore_range = true,
                Trouble::WrongByte => how.wrong_byte = true,
                _ => {}
            }
        }
        how
    }
}

fn serve(bytes: Bytes, headers: &HeaderMap, how: How) -> Response {
    let total = bytes.len();
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).filter(|_| !how.ignore_range);
    let (status, start, end) = match range.map(|text| parse_range(text, total)) {
        None => (StatusCode::OK, 0, total),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            let value = header_value(&format!("bytes */{total}"));
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, value)]).into_response();
        }
    };
    let mut bytes = bytes.slice(start..end);
    if how.wrong_byte && end == total && !bytes.is_empty() {
        let mut changed = bytes.to_vec();
        if let Some(last) = changed.last_mut() {
            *last ^= 1;
        }
        bytes = changed.into();
    }
    let length = bytes.len();
    let mut response = (status, Body::from_stream(pieces(bytes, how.drop_after, how.pause))).into_response();
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(CONTENT_RANGE, header_value(&format!("bytes {start}-{}/{total}", end - 1)));
    }
    response
}

/// The body piece by piece, up to the place where the connection breaks.
fn pieces(
    bytes: Bytes,
    drop_after: Option<u64>,
    pause: Option<Duration>,
) -> impl stream::Stream<Item = io::Result<Bytes>> {
    let breaks_at = drop_after.map_or(usize::MAX, |after| after as usize);
    stream::try_unfold(0, move |at| {
        let bytes = bytes.clone();
        async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            if at >= breaks_at && at < bytes.len() {
                // What was served before has to be on its way before the connection breaks.
                tokio::task::yield_now().await;
                return Err(io::Error::other("the connection breaks here"));
            }
            let end = (at + PIECE).min(bytes.len()).min(breaks_at);
            Ok((at < end).then(|| (bytes.slice(at..end), end)))
        }
    })
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n`, as start and end.
fn parse_range(text: &str, total: usize) -> Option<(usize, usize)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<usize>().ok(), last.parse::<usize>().ok()) {
        (Some(start), Some(last)) => (start, last.saturating_add(1).min(total)),
        (Some(start), None) if last.is_empty() => (start, total),
        (None, Some(count)) if first.is_empty() => (total.saturating_sub(count), total),
        _ => return None,
    };
    (start < end).then_some((start, end))
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
