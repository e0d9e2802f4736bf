//! Downloading a model into the shared cache: several files and several pieces of a file at a time, each resumed where
//! it stopped, believed only with the right hash.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::try_join_all;
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE},
};
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    Hub, OnProgress, Progress,
    cache::RepoCache,
    error::HubError,
    http::{Request, chunk},
    info::{RepoFile, inaccessible},
    partial::{BlobHash, PIECE, Partial, Span},
    select::wanted,
    token::Token,
};

/// How often a connection may break before anything came over it.
const BARREN_ATTEMPTS: u32 = 5;
/// Connections that are open at a time, of all files together.
const CONNECTIONS: usize = 8;
/// Files that are worked on at a time.
const FILES: usize = 8;
/// Bytes that are gathered before they are written.
const GATHERED: usize = 256 << 10;

impl Hub {
    /// Downloads the files of a model that are needed here and returns the folder they are in, below
    /// `cache_dir/models--owner--name/snapshots`. What is there already is not asked for again.
    ///
    /// Dropping the future stops the download; what was told as done stays, and the next call goes on from there.
    ///
    /// # Errors
    /// As for [`Hub::model_info`]; [`HubError::NoSafetensors`] where the weights are in another format only;
    /// [`HubError::Damaged`] where what arrives is not what was announced; [`HubError::File`] for a full disk.
    pub async fn download(
        &self,
        repo: &str,
        revision: &str,
        cache_dir: &Path,
        on_progress: OnProgress<'_>,
    ) -> Result<PathBuf, HubError> {
        let info = self.model_info_at(repo, revision).await?;
        let files: Vec<Blob> =
            wanted(&info)?.into_iter().map(|f| Blob::of(&info.id, f)).collect::<Result<_, _>>()?;
        let token = self.http.tokens().get().await?;
        // The name it was asked for, so that it is found again under that name.
        let cache = RepoCache::new(cache_dir, repo);
        cache.make_folders(&info.sha)?;
        let transfer = Transfer {
            hub: self,
            repo: &info.id,
            sha: &info.sha,
            token: token.as_ref(),
            cache: &cache,
            files: Semaphore::new(FILES),
            connections: Semaphore::new(CONNECTIONS),
            meter: Meter::new(&files, on_progress),
        };
        try_join_all(files.iter().map(|file| transfer.fetch(file))).await?;
        // Last, so that a branch never leads to a folder with files missing.
        cache.note(revision, &info.sha)?;
        Ok(cache.snapshot(&info.sha))
    }
}

/// A file with all that is needed to check it.
struct Blob {
    path: String,
    size: u64,
    /// Also the name it is kept under.
    hash: BlobHash,
}

impl Blob {
    fn of(repo: &str, file: &RepoFile) -> Result<Self, HubError> {
        let bad =
            |why: &str| HubError::malformed(&format!("download {repo}"), format!("{}: {why}", file.path));
        let size = file.size.ok_or_else(|| bad("it has no size"))?;
        let hash = match (&file.sha256, &file.blob_id) {
            (Some(sha256), _) => BlobHash::Sha256(sha256.clone()),
            (None, Some(id)) => BlobHash::Git(id.clone()),
            (None, None) => return Err(bad("it has no hash")),
        };
        Ok(Self { path: file.path.clone(), size, hash })
    }
}

/// Counts the bytes of all files and tells.
struct Meter<'a> {
    total: u64,
    state: Mutex<(u64, OnProgress<'a>)>,
}

impl<'a> Meter<'a> {
    fn new(files: &[Blob], on_progress: OnProgress<'a>) -> Self {
        // What the Hub announces can be any number.
        let total = files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
        Self { total, state: Mutex::new((0, on_progress)) }
    }

    fn change(&self, file: &Blob, change: impl FnOnce(u64) -> u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, tell) = &mut *state;
        *done = change(*done);
        tell(Progress { bytes_done: *done, bytes_total: self.total, file: file.path.clone() });
    }

    fn add(&self, file: &Blob, bytes: u64) {
        self.change(file, |done| done.saturating_add(bytes));
    }

    fn take_back(&self, file: &Blob, bytes: u64) {
        self.change(file, |done| done.saturating_sub(bytes));
    }
}

struct Transfer<'a> {
    hub: &'a Hub,
    repo: &'a str,
    sha: &'a str,
    token: Option<&'a Token>,
    cache: &'a RepoCache,
    files: Semaphore,
    connections: Semaphore,
    meter: Meter<'a>,
}

/// Where the pieces of one file are asked for.
#[derive(Default)]
struct Source {
    /// The storage's own address, which is good for a while: so the Hub is asked once a file, not once a piece.
    storage: tokio::sync::Mutex<Option<Url>>,
    /// Files come from their start, whatever is asked for.
    ignores_ranges: AtomicBool,
}

impl Source {
    fn ignores_ranges(&self) -> bool {
        self.ignores_ranges.load(Ordering::Relaxed)
    }
}

impl Transfer<'_> {
    fn what(&self, file: &Blob) -> String {
        format!("download {} of {}", file.path, self.repo)
    }

    /// Makes sure that the file's blob is there and right, and that the snapshot leads to it.
    async fn fetch(&self, file: &Blob) -> Result<(), HubError> {
        let blob = self.cache.blob(file.hash.text());
        let is_there = || std::fs::metadata(&blob).is_ok_and(|there| there.len() == file.size);
        if is_there() {
            self.meter.add(file, file.size);
        } else {
            let _turn = self.files.acquire().await;
            let (cache, hash) = (self.cache.clone(), file.hash.clone());
            let lock = tokio::task::spawn_blocking(move || cache.lock(hash.text())).await;
            let _lock =
                lock.map_err(|_| HubError::file(&blob)(io::Error::other("the lock was not taken")))??;
            if is_there() {
                self.meter.add(file, file.size);
            } else {
                self.receive(file, &blob).await?;
            }
        }
        self.cache.link(self.sha, &file.path, file.hash.text())
    }

    /// Fetches what is missing of a file, all of it where what was there turns out to be of no use.
    async fn receive(&self, file: &Blob, blob: &Path) -> Result<(), HubError> {
        let (mut in_one_piece, mut again) = (file.size <= PIECE, true);
        loop {
            let path = self.cache.partial(file.hash.text());
            let partial = Partial::open(path, file.size, in_one_piece).await?;
            let taken_over = partial.there();
            self.meter.add(file, taken_over);
            let source = Source::default();
            let pieces = 0..partial.pieces();
            try_join_all(pieces.map(|index| self.piece(file, &partial, &source, index))).await?;
            let there = partial.there();
            if source.ignores_ranges() {
                in_one_piece = true;
                partial.discard().await;
            } else {
                let removed = self.cache.partial(file.hash.text());
                let Err(got) = partial.publish(&file.hash, blob).await? else { return Ok(()) };
                // What cannot be removed is found damaged again.
                let _ = tokio::fs::remove_file(removed).await;
                // An earlier download may have left something else than this one would have brought.
                again &= taken_over > 0;
                if !again {
                    return Err(damaged(file, file.hash.kind(), file.hash.text(), got));
                }
                again = false;
            }
            self.meter.take_back(file, there);
        }
    }

    /// Fetches what is missing of a piece, over as many connections as that takes.
    async fn piece(
        &self,
        file: &Blob,
        partial: &Partial,
        source: &Source,
        index: usize,
    ) -> Result<(), HubError> {
        let mut barren = 0;
        loop {
            let Span { next, end } = partial.span(index);
            if next == end || source.ignores_ranges() {
                return Ok(());
            }
            let turn = self.connections.acquire().await;
            let received = self.stretch(file, partial, source, index).await;
            drop(turn);
            let Err(error) = received else { continue };
            // A refusal by the Hub has been repeated with patience by then; a broken connection has not.
            let gives_up = match &error {
                HubError::Refused { .. } => !self.renews(source, &error).await,
                error => !error.passes(),
            };
            barren = if partial.span(index).next > next { 0 } else { barren + 1 };
            if gives_up || barren >= BARREN_ATTEMPTS {
                return Err(error);
            }
            if barren > 0 {
                self.hub.http.wait_before(barren).await;
            }
        }
    }

    /// Asks once for what is missing of a piece and writes what comes.
    async fn stretch(
        &self,
        file: &Blob,
        partial: &Partial,
        source: &Source,
        index: usize,
    ) -> Result<(), HubError> {
        let what = self.what(file);
        let Span { mut next, end } = partial.span(index);
        let in_pieces = partial.pieces() > 1;
        let whole = next == 0 && !in_pieces;
        let mut request = self.ask(file, source, in_pieces).await?;
        if !whole {
            let last = if in_pieces { (end - 1).to_string() } else { String::new() };
            let range = HeaderValue::from_str(&format!("bytes={next}-{last}"));
            request = request.header(RANGE, range.map_err(|e| HubError::malformed(&what, e.to_string()))?);
        }
        let answer = request.patient().send(&what).await.map_err(|e| inaccessible(self.repo, e))?;
        if !in_pieces {
            check_etag(file, &answer.first)?;
        }
        let mut response = answer.response;
        if !whole && !continues(file, response.status(), response.headers(), next)? {
            if in_pieces {
                source.ignores_ranges.store(true, Ordering::Relaxed);
                return Ok(());
            }
            partial.forget(index);
            self.meter.take_back(file, next);
            next = 0;
        }
        let mut gathered = Vec::with_capacity(GATHERED);
        let end_of_body = loop {
            let more = match chunk(&self.hub.http, &mut response, &what).await {
                Ok(Some(bytes)) => {
                    gathered.extend_from_slice(bytes.as_ref());
                    next += bytes.as_ref().len() as u64;
                    None
                }
                Ok(None) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            };
            if next > end {
                partial.discard().await;
                return Err(damaged(file, "size", &file.size.to_string(), "more".into()));
            }
            if gathered.len() >= GATHERED || (more.is_some() && !gathered.is_empty()) {
                let bytes = gathered.len() as u64;
                partial.write(index, std::mem::take(&mut gathered)).await?;
                self.meter.add(file, bytes);
            }
            if let Some(end) = more {
                break end;
            }
        };
        end_of_body?;
        if next < end {
            // Over HTTP/1.0 or a bad proxy a broken connection looks like an end.
            return Err(HubError::Silent { what });
        }
        Ok(())
    }

    /// A request for a file: at its storage, where it comes in pieces and the Hub leads there.
    async fn ask(&self, file: &Blob, source: &Source, in_pieces: bool) -> Result<Request<'_>, HubError> {
        let own = self.hub.file_url(self.repo, self.sha, &file.path)?;
        let get = |url| self.hub.http.request(Method::GET, url).token(self.token);
        if !in_pieces {
            return Ok(get(own));
        }
        let mut storage = source.storage.lock().await;
        if storage.is_none() {
            let what = self.what(file);
            let request = self.hub.http.request(Method::HEAD, own.clone()).token(self.token);
            let answer = request.patient().without_following().send(&what).await;
            let answer = answer.map_err(|e| inaccessible(self.repo, e))?;
            check_etag(file, &answer.first)?;
            let location = answer.first.get(LOCATION).and_then(|value| value.to_str().ok());
            *storage = location.map(|to| self.hub.http.named_url(&what, to)).transpose()?;
        }
        Ok(get(storage.clone().unwrap_or(own)))
    }

    /// Whether a refusal may be that of an address that was good for a while only: the Hub is asked for another then.
    async fn renews(&self, source: &Source, error: &HubError) -> bool {
        let expired =
            matches!(error, HubError::Refused { by_storage: true, status: 400 | 401 | 403 | 404 | 410, .. });
        if expired {
            *source.storage.lock().await = None;
        }
        expired
    }
}

fn damaged(file: &Blob, what: &'static str, want: &str, got: String) -> HubError {
    HubError::Damaged { file: file.path.clone(), what, want: want.into(), got }
}

/// The Hub's own name for the content, which must be the one that was looked up. Its storage may have another.
fn check_etag(file: &Blob, headers: &HeaderMap) -> Result<(), HubError> {
    let etag = headers.get("x-linked-etag").or(headers.get("etag")).and_then(|value| value.to_str().ok());
    let etag = etag.map(|text| text.trim_start_matches("W/").trim_matches('"'));
    match etag {
        Some(etag) if etag != file.hash.text() => {
            Err(damaged(file, "ETag", file.hash.text(), etag.to_string()))
        }
        _ => Ok(()),
    }
}

/// Whether the answer starts where the piece goes on. One that is a part of a file of another size is damaged.
fn continues(file: &Blob, status: StatusCode, headers: &HeaderMap, next: u64) -> Result<bool, HubError> {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let (span, total) =
        range.and_then(|text| text.strip_prefix("bytes ")?.split_once('/')).unwrap_or(("", ""));
    let start: Option<u64> = span.split('-').next().and_then(|start| start.parse().ok());
    if status != StatusCode::PARTIAL_CONTENT || start != Some(next) {
        return Ok(false);
    }
    match total.parse::<u64>() {
        Ok(total) if total != file.size => {
            Err(damaged(file, "size", &file.size.to_string(), total.to_string()))
        }
        _ => Ok(true),
    }
}
