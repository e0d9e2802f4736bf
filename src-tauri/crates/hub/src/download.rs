//! Downloading a model into the shared cache: resumed where it stopped, believed only with the right hash.

use std::{
    io,
    path::{Path, PathBuf},
};

use reqwest::{
    Method, StatusCode,
    header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE},
};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncWriteExt},
};

use crate::{
    Hub, OnProgress, Progress,
    cache::RepoCache,
    error::HubError,
    http::chunk,
    info::{RepoFile, inaccessible},
    select::wanted,
    token::Token,
};

/// How often a connection may break before anything came over it.
const BARREN_ATTEMPTS: u32 = 5;

impl Hub {
    /// Downloads the files of a model that are needed here and returns the folder they are in, below
    /// `cache_dir/models--owner--name/snapshots`. What is there already is not asked for again.
    ///
    /// Dropping the future stops the download; what has arrived stays, and the next call goes on from there.
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
        let mut transfer = Transfer {
            hub: self,
            repo: &info.id,
            sha: &info.sha,
            token: token.as_ref(),
            cache: &cache,
            before: 0,
            // What the Hub announces can be any number.
            total: files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size)),
            on_progress,
        };
        for file in &files {
            transfer.fetch(file).await?;
            cache.link(&info.sha, &file.path, &file.hash)?;
            transfer.before = transfer.before.saturating_add(file.size);
            transfer.tell(file, 0);
        }
        // Last, so that a branch never leads to a folder with files missing.
        cache.note(revision, &info.sha)?;
        Ok(cache.snapshot(&info.sha))
    }
}

/// A file with all that is needed to check it.
struct Blob {
    path: String,
    size: u64,
    /// SHA-256 for a file in Git LFS, else git's own hash; also the name it is kept under.
    hash: String,
    is_lfs: bool,
}

impl Blob {
    fn of(repo: &str, file: &RepoFile) -> Result<Self, HubError> {
        let bad =
            |why: &str| HubError::malformed(&format!("download {repo}"), format!("{}: {why}", file.path));
        let hash = file.sha256.as_ref().or(file.blob_id.as_ref());
        Ok(Self {
            path: file.path.clone(),
            size: file.size.ok_or_else(|| bad("it has no size"))?,
            hash: hash.ok_or_else(|| bad("it has no hash"))?.clone(),
            is_lfs: file.sha256.is_some(),
        })
    }
}

/// The hash that names a blob, over what has arrived so far.
#[derive(Clone)]
enum Hasher {
    Lfs(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(file: &Blob) -> Self {
        if file.is_lfs {
            return Hasher::Lfs(Sha256::new());
        }
        let mut sha1 = Sha1::new();
        sha1.update(format!("blob {}\0", file.size));
        Hasher::Git(sha1)
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Lfs(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Hasher::Lfs(hasher) => hex(&hasher.finalize()),
            Hasher::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}

struct Transfer<'a> {
    hub: &'a Hub,
    repo: &'a str,
    sha: &'a str,
    token: Option<&'a Token>,
    cache: &'a RepoCache,
    /// Bytes of the files that are finished.
    before: u64,
    total: u64,
    on_progress: OnProgress<'a>,
}

/// A file that is being written.
struct Partial {
    path: PathBuf,
    file: File,
    there: u64,
    hasher: Hasher,
}

impl Transfer<'_> {
    fn tell(&mut self, file: &Blob, there: u64) {
        (self.on_progress)(Progress {
            bytes_done: self.before.saturating_add(there),
            bytes_total: self.total,
            file: file.path.clone(),
        });
    }

    /// Makes sure that the file's blob is there and right.
    async fn fetch(&mut self, file: &Blob) -> Result<(), HubError> {
        let blob = self.cache.blob(&file.hash);
        let is_there = || std::fs::metadata(&blob).is_ok_and(|there| there.len() == file.size);
        if is_there() {
            return Ok(());
        }
        let (cache, hash) = (self.cache.clone(), file.hash.clone());
        let lock = tokio::task::spawn_blocking(move || cache.lock(&hash)).await;
        let _lock = lock.map_err(|_| HubError::file(&blob)(io::Error::other("the lock was not taken")))??;
        if is_there() {
            return Ok(());
        }
        let mut partial = Partial::open(self.cache.partial(&file.hash), file).await?;
        self.tell(file, partial.there);
        let mut barren = 0;
        while partial.there < file.size {
            let had = partial.there;
            match self.receive(file, &mut partial).await {
                Ok(()) => {}
                Err(error) if error.passes() => {
                    barren = if partial.there > had { 0 } else { barren + 1 };
                    // A refusal has been repeated with patience by then; a broken connection has not.
                    if barren >= BARREN_ATTEMPTS || matches!(error, HubError::Refused { .. }) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        partial.publish(file, &blob).await
    }

    /// Asks for what is missing and writes what comes.
    async fn receive(&mut self, file: &Blob, partial: &mut Partial) -> Result<(), HubError> {
        let what = format!("download {} of {}", file.path, self.repo);
        let url = self.hub.file_url(self.repo, self.sha, &file.path)?;
        let mut request = self.hub.http.request(Method::GET, url).token(self.token);
        if partial.there > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", partial.there));
            request = request.header(RANGE, range.map_err(|e| HubError::malformed(&what, e.to_string()))?);
        }
        let answer = request.send(&what).await.map_err(|e| inaccessible(self.repo, e))?;
        check_etag(file, &answer.first)?;
        let mut response = answer.response;
        if partial.there > 0 && !continues(response.status(), response.headers(), partial.there) {
            partial.restart(file).await?;
        }
        while let Some(bytes) = chunk(&mut response, &what).await? {
            let bytes = bytes.as_ref();
            let there = partial.there + bytes.len() as u64;
            if there > file.size {
                partial.discard().await;
                return Err(damaged(file, "size", file.size.to_string(), format!("{there} or more")));
            }
            partial.write(bytes).await?;
            self.tell(file, partial.there);
        }
        if partial.there < file.size {
            // Over HTTP/1.0 or a bad proxy a broken connection looks like an end.
            return Err(HubError::Silent { what });
        }
        Ok(())
    }
}

impl Partial {
    /// Takes over what an earlier download left.
    async fn open(path: PathBuf, wanted: &Blob) -> Result<Self, HubError> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).await;
        let file = opened.map_err(HubError::file(&path))?;
        let mut partial = Self { path, file, there: 0, hasher: Hasher::new(wanted) };
        let mut buffer = vec![0; 1 << 20];
        loop {
            match partial.file.read(&mut buffer).await.map_err(HubError::file(&partial.path))? {
                0 => break,
                n => {
                    partial.hasher.update(buffer.get(..n).unwrap_or_default());
                    partial.there += n as u64;
                }
            }
        }
        if partial.there > wanted.size {
            partial.restart(wanted).await?;
        }
        Ok(partial)
    }

    async fn restart(&mut self, wanted: &Blob) -> Result<(), HubError> {
        let cut = File::create(&self.path).await;
        self.file = cut.map_err(HubError::file(&self.path))?;
        self.there = 0;
        self.hasher = Hasher::new(wanted);
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).await.map_err(HubError::file(&self.path))?;
        // What is told as done must outlive this download.
        self.file.flush().await.map_err(HubError::file(&self.path))?;
        self.hasher.update(bytes);
        self.there += bytes.len() as u64;
        Ok(())
    }

    async fn discard(&self) {
        // What cannot be removed is found damaged again.
        let _ = tokio::fs::remove_file(&self.path).await;
    }

    async fn publish(self, wanted: &Blob, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().await.map_err(HubError::file(&self.path))?;
        let got = self.hasher.clone().finish();
        if got != wanted.hash {
            self.discard().await;
            let what = if wanted.is_lfs { "SHA-256" } else { "SHA-1" };
            return Err(damaged(wanted, what, wanted.hash.clone(), got));
        }
        drop(self.file);
        tokio::fs::rename(&self.path, blob).await.map_err(HubError::file(blob))
    }
}

fn damaged(file: &Blob, what: &'static str, want: String, got: String) -> HubError {
    HubError::Damaged { file: file.path.clone(), what, want, got }
}

/// The Hub's own name for the content, which must be the one that was looked up.
fn check_etag(file: &Blob, headers: &HeaderMap) -> Result<(), HubError> {
    let etag = headers.get("x-linked-etag").or(headers.get("etag")).and_then(|value| value.to_str().ok());
    let etag = etag.map(|text| text.trim_start_matches("W/").trim_matches('"'));
    match etag {
        Some(etag) if etag != file.hash => Err(damaged(file, "ETag", file.hash.clone(), etag.to_string())),
        _ => Ok(()),
    }
}

/// Whether the answer starts where the partial file ends.
fn continues(status: StatusCode, headers: &HeaderMap, there: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    status == StatusCode::PARTIAL_CONTENT && start == Some(there)
}
