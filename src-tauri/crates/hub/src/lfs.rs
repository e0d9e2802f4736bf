//! Uploading to Git LFS: the batch question, one stream or many parts, and the check afterwards.
//! <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>; `multipart` is the Hub's own addition.

use std::{collections::BTreeMap, path::PathBuf};

use futures_util::stream;
use reqwest::{
    Body, Method,
    header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc::{UnboundedSender, unbounded_channel},
};
use types::files;

use crate::{error::HubError, http::Http, push::LocalFile, token::Token};

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
const PIECE: u64 = 1 << 20;

/// A file under its SHA-256.
pub(crate) struct Object<'a> {
    pub file: &'a LocalFile,
    pub oid: String,
}

impl<'a> Object<'a> {
    pub(crate) async fn of(files: Vec<&'a LocalFile>) -> Result<Vec<Self>, HubError> {
        let mut objects = Vec::with_capacity(files.len());
        for file in files {
            let path = file.path.clone();
            let hashing = tokio::task::spawn_blocking(move || files::sha256(&path)).await;
            let oid = hashing
                .unwrap_or_else(|e| Err(std::io::Error::other(e)))
                .map_err(HubError::file(&file.path))?;
            objects.push(Self { file, oid });
        }
        Ok(objects)
    }
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<BatchObject>,
}

#[derive(Deserialize)]
struct BatchObject {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    error: Option<BatchError>,
}

#[derive(Deserialize)]
struct BatchError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

/// How often an object is begun again because its address was not good any more.
const RENEWALS: u32 = 3;

/// Uploads one object, unless the Hub has it. `sent` is told the bytes of the object that are on their way.
pub(crate) async fn upload(
    http: &Http,
    repo: &str,
    token: &Token,
    object: &Object<'_>,
    sent: &mut (dyn FnMut(u64) + Send),
) -> Result<(), HubError> {
    for _ in 1..RENEWALS {
        match upload_at_new_addresses(http, repo, token, object, sent).await {
            Err(HubError::Refused { by_storage: true, status: 400 | 401 | 403 | 404 | 410, .. }) => {}
            other => return other,
        }
    }
    upload_at_new_addresses(http, repo, token, object, sent).await
}

async fn upload_at_new_addresses(
    http: &Http,
    repo: &str,
    token: &Token,
    object: &Object<'_>,
    sent: &mut (dyn FnMut(u64) + Send),
) -> Result<(), HubError> {
    let what = format!("upload {} to {repo}", object.file.name);
    let size = object.file.size;
    let (owner, name) = repo.split_once('/').unwrap_or(("", repo));
    let url = http.url(&[owner, &format!("{name}.git"), "info", "lfs", "objects", "batch"])?;
    let question = json!({
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "hash_algo": "sha256",
        "ref": { "name": "main" },
        "objects": [{ "oid": object.oid, "size": size }],
    });
    let batch: Batch = post(http, url, Some(token), &question).json(&what).await?;
    let answer = batch.objects.into_iter().find(|answer| answer.oid == object.oid);
    let answer = answer.ok_or_else(|| HubError::malformed(&what, "the object is not in it"))?;
    if let Some(BatchError { code, message }) = answer.error {
        let said = message.chars().filter(|c| !c.is_control()).take(300).collect();
        return Err(HubError::Refused {
            what,
            status: code,
            code: String::new(),
            said,
            retry_after: None,
            by_storage: false,
        });
    }
    let Some(Actions { upload: Some(upload), verify }) = answer.actions else { return Ok(()) };
    let put = Put { http, what: &what, path: &object.file.path };
    let href = http.named_url(&what, &upload.href)?;
    match chunk_size(&upload.header) {
        None => put.part(href, 0, size, sent).await.map(|_| ())?,
        Some(chunk) => {
            let parts = put.parts(&upload.header, chunk, size, sent).await?;
            post(http, href, Some(token), &json!({ "oid": object.oid, "parts": parts })).send(&what).await?;
        }
    }
    if let Some(verify) = verify {
        let href = http.named_url(&what, &verify.href)?;
        post(http, href, Some(token), &json!({ "oid": object.oid, "size": size })).send(&what).await?;
    }
    Ok(())
}

fn post<'a>(
    http: &'a Http,
    url: url::Url,
    token: Option<&'a Token>,
    body: &Value,
) -> crate::http::Request<'a> {
    let text = body.to_string();
    http.request(Method::POST, url)
        .token(token)
        .header(ACCEPT, HeaderValue::from_static(MEDIA_TYPE))
        .body(Some(MEDIA_TYPE), move || Body::from(text.clone()))
}

/// Bytes a part, where the Hub wants parts; it gives the number as text.
fn chunk_size(header: &BTreeMap<String, Value>) -> Option<u64> {
    match header.get("chunk_size")? {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    }
    .filter(|size| *size > 0)
}

/// Sends pieces of one file.
struct Put<'a> {
    http: &'a Http,
    what: &'a str,
    path: &'a PathBuf,
}

impl Put<'_> {
    /// Sends each part to its own address; gives what the completion has to name.
    async fn parts(
        &self,
        header: &BTreeMap<String, Value>,
        chunk: u64,
        size: u64,
        sent: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<Value>, HubError> {
        let malformed = |why: &str| HubError::malformed(self.what, why);
        let addresses: BTreeMap<u64, &str> =
            header.iter().filter_map(|(key, value)| Some((key.parse().ok()?, value.as_str()?))).collect();
        if addresses.len() as u64 != size.div_ceil(chunk) {
            return Err(malformed("the number of parts does not fit the size"));
        }
        let mut parts = Vec::with_capacity(addresses.len());
        for (index, address) in addresses.into_values().enumerate() {
            let start = index as u64 * chunk;
            let url = self.http.named_url(self.what, address)?;
            let headers = self.part(url, start, chunk.min(size - start), &mut |n| sent(start + n)).await?;
            let etag = headers.get("etag").and_then(|value| value.to_str().ok());
            let etag = etag.ok_or_else(|| malformed("a part has no ETag"))?;
            parts.push(json!({ "partNumber": index + 1, "etag": etag }));
        }
        Ok(parts)
    }

    /// Sends `length` bytes from `start` on; gives the answer's headers. No token goes along: the address is signed.
    async fn part(
        &self,
        url: url::Url,
        start: u64,
        length: u64,
        sent: &mut (dyn FnMut(u64) + Send),
    ) -> Result<HeaderMap, HubError> {
        let (tell, mut told) = unbounded_channel();
        let request = self
            .http
            .request(Method::PUT, url)
            .header(CONTENT_LENGTH, HeaderValue::from(length))
            .body(None, || stream_of(self.path.clone(), start, length, tell.clone()));
        let mut sending = std::pin::pin!(request.send(self.what));
        loop {
            tokio::select! {
                answer = &mut sending => return Ok(answer?.first),
                Some(bytes) = told.recv() => sent(bytes),
                // The answer to the last byte may take as long as the Hub hashes.
                () = tokio::time::sleep(self.http.silence() * 8) => return Err(HubError::Silent { what: self.what.into() }),
            }
        }
    }
}

/// A part of a file as the body of a request, read while it is sent.
fn stream_of(path: PathBuf, start: u64, length: u64, sent: UnboundedSender<u64>) -> Body {
    struct Reading {
        file: Option<tokio::fs::File>,
        done: u64,
    }
    let pieces = stream::try_unfold(Reading { file: None, done: 0 }, move |mut reading| {
        let (path, sent) = (path.clone(), sent.clone());
        async move {
            if reading.done == length {
                return Ok::<_, std::io::Error>(None);
            }
            let mut file = match reading.file.take() {
                Some(file) => file,
                None => {
                    let mut file = tokio::fs::File::open(&path).await?;
                    file.seek(std::io::SeekFrom::Start(start)).await?;
                    file
                }
            };
            let mut piece = Vec::new();
            (&mut file).take(PIECE.min(length - reading.done)).read_to_end(&mut piece).await?;
            if piece.is_empty() {
                return Err(std::io::Error::other("the file became shorter while it was uploaded"));
            }
            reading.done += piece.len() as u64;
            // Nobody listens where the request was given up.
            let _ = sent.send(reading.done);
            reading.file = Some(file);
            Ok(Some((piece, reading)))
        }
    });
    Body::wrap_stream(pieces)
}
