//! Serving files: small ones from the Hub itself, large ones by way of the storage address.

use std::{io, ops::Range, time::Duration};

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
    state::{Content, Trouble, World, once_more},
};

/// What the storage wants in an address, as signed addresses have it.
pub(crate) const SIGNATURE: &str = "only-the-hub-gives-this";
const PIECE: u64 = 64 << 10;

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
    let loops = repo.troubles.contains(&Trouble::RedirectLoop);
    let mut response = match &entry.sha256 {
        _ if loops => {
            let to = format!("{}/{id}/resolve/{revision}/{path}", shared.url);
            let mut response = StatusCode::FOUND.into_response();
            response.headers_mut().insert(LOCATION, header_value(&to));
            response
        }
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
    refuse(&mut world, id)?;
    let bytes = world.object(&oid).ok_or_else(|| Refusal::new(404, "", "No such object"))?;
    let how = How::of(&mut world, id, &method);
    Ok(serve(bytes, &headers, how))
}

/// The troubles of the storage.
pub(crate) fn refuse(world: &mut World, id: &str) -> Result<(), Refusal> {
    let trouble = world.suffer(id, |trouble| match trouble {
        Trouble::StorageFails { times, status } => {
            let status = *status;
            once_more(times).then(|| Refusal::new(status, "", "The storage fails"))
        }
        _ => None,
    });
    trouble.map_or(Ok(()), Err)
}

/// How a file is served, well or badly.
#[derive(Default)]
struct How {
    drop_after: Option<u64>,
    stall_after: Option<u64>,
    truncate_after: Option<u64>,
    pause: Option<Duration>,
    ignore_range: bool,
    wrong_byte: bool,
}

impl How {
    fn of(world: &mut World, id: &str, method: &Method) -> Self {
        if method != Method::GET {
            return Self::default();
        }
        let mut how = Self::default();
        for trouble in world.repos.get_mut(id).into_iter().flat_map(|repo| &mut repo.troubles) {
            match trouble {
                Trouble::Drop { times, after } => how.drop_after = once_more(times).then_some(*after),
                Trouble::Stall { times, after } => how.stall_after = once_more(times).then_some(*after),
                Trouble::Truncate { times, after } => how.truncate_after = once_more(times).then_some(*after),
                Trouble::Slow(pause) => how.pause = Some(*pause),
                Trouble::IgnoreRange => how.ignore_range = true,
                Trouble::WrongByte => how.wrong_byte = true,
                _ => {}
            }
        }
        how
    }
}

fn serve(content: Content, headers: &HeaderMap, how: How) -> Response {
    let total = content.size;
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).filter(|_| !how.ignore_range);
    let (status, start, end) = match range.map(|text| parse_range(text, total)) {
        None => (StatusCode::OK, 0, total),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            let value = header_value(&format!("bytes */{total}"));
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, value)]).into_response();
        }
    };
    let served = how.truncate_after.map_or(end, |after| end.min(start + after));
    let body = Body::from_stream(pieces(content, start..served, how));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(served - start));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(CONTENT_RANGE, header_value(&format!("bytes {start}-{}/{total}", end - 1)));
    }
    response
}

/// The body piece by piece, up to the place where the connection breaks or nothing comes any more.
fn pieces(
    content: Content,
    range: Range<u64>,
    how: How,
) -> impl stream::Stream<Item = io::Result<Bytes>> + use<> {
    let place = |after: Option<u64>| after.map_or(u64::MAX, |after| range.start.saturating_add(after));
    let (breaks_at, stalls_at) = (place(how.drop_after), place(how.stall_after));
    let (end, pause, wrong_byte) = (range.end, how.pause, how.wrong_byte);
    stream::try_unfold(range.start, move |at| {
        let content = content.clone();
        async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            if at >= stalls_at && at < end {
                std::future::pending::<()>().await;
            }
            if at >= breaks_at && at < end {
                // What was served before has to be on its way before the connection breaks.
                tokio::task::yield_now().await;
                return Err(io::Error::other("the connection breaks here"));
            }
            let next = (at + PIECE).min(end).min(breaks_at).min(stalls_at);
            if at >= next {
                return Ok(None);
            }
            let mut bytes = content.part(at, next);
            if wrong_byte && next == content.size {
                let mut changed = bytes.to_vec();
                if let Some(last) = changed.last_mut() {
                    *last ^= 1;
                }
                bytes = changed.into();
            }
            Ok(Some((bytes, next)))
        }
    })
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n`, as start and end.
fn parse_range(text: &str, total: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
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
