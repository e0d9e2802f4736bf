//! The folder that the Hub's Python tools share: `models--owner--name/{blobs,refs,snapshots}`.
//!
//! A blob is a file's content under its hash; a snapshot is a folder of links to blobs for one commit; a ref says
//! which commit a branch was at. Whoever writes a blob holds the lock that the Python tools hold too.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use types::files;

use crate::{error::HubError, repo::check_repo_name};

/// Makes a commit that was downloaded the one that a repository's name stands for in the cache.
///
/// # Errors
/// [`HubError::BadRepoName`]; [`HubError::File`] where the cache cannot be written.
pub fn note_main(cache_dir: &Path, repo: &str, sha: &str) -> Result<(), HubError> {
    check_repo_name(repo)?;
    RepoCache::new(cache_dir, repo).note("main", sha)
}

/// One repository in a cache folder.
#[derive(Debug, Clone)]
pub(crate) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// `repo` must be a checked name.
    pub(crate) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    pub(crate) fn snapshot(&self, sha: &str) -> PathBuf {
        self.folder.join("snapshots").join(sha)
    }

    /// The content with this hash.
    pub(crate) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// What is there so far of the content with this hash. Its name is not one of the Python tools', which could
    /// take it for theirs.
    pub(crate) fn partial(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{hash}{}", files::UNFINISHED_BLOB))
    }

    /// What a file of this size still takes on the disk. What has arrived of it may stand anywhere in it, so what counts is
    /// what the disk gives it; where the system does not tell, nothing has arrived.
    pub(crate) fn missing(&self, hash: &str, size: u64) -> u64 {
        match (self.blob(hash).metadata(), self.partial(hash).metadata()) {
            (Ok(_), _) => 0,
            (Err(_), Ok(part)) => size.saturating_sub(on_disk(&part)),
            (Err(_), Err(_)) => size,
        }
    }

    pub(crate) fn make_folders(&self, sha: &str) -> Result<(), HubError> {
        for folder in
            [self.folder.join("blobs"), self.folder.join("refs"), self.snapshot(sha), self.locks.clone()]
        {
            fs::create_dir_all(&folder).map_err(HubError::file(&folder))?;
        }
        Ok(())
    }

    /// Waits until nobody else downloads this content; the file that is returned is the lock. Blocks.
    pub(crate) fn lock(&self, hash: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{hash}.lock"));
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            file.lock()?;
            io::Result::Ok(file)
        };
        open().map_err(HubError::file(&path))
    }

    /// Puts the content with this hash into a snapshot under a checked name.
    pub(crate) fn link(&self, sha: &str, name: &str, hash: &str) -> Result<(), HubError> {
        let blob = self.blob(hash);
        let path = self.snapshot(sha).join(name);
        let point = || {
            let size = fs::metadata(&blob)?.len();
            let is_copy =
                fs::symlink_metadata(&path).is_ok_and(|there| there.is_file() && there.len() == size);
            if is_copy || fs::canonicalize(&path).ok() == Some(fs::canonicalize(&blob)?) {
                return Ok(());
            }
            let target = Path::new("..").join("..").join("blobs").join(hash);
            // Not every system lets everyone make links; a second name for the blob or a copy serves as well.
            let link = |to: &Path| {
                symlink(&target, to)
                    .or_else(|_| fs::hard_link(&blob, to))
                    .or_else(|_| fs::copy(&blob, to).map(|_| ()))
            };
            let made = tempfile::Builder::new().prefix(".link-").make_in(self.snapshot(sha), link)?;
            made.into_temp_path().persist(&path).map_err(|e| e.error)
        };
        point().map_err(HubError::file(&path))
    }

    /// Notes which commit a branch or tag is at.
    pub(crate) fn note(&self, revision: &str, sha: &str) -> Result<(), HubError> {
        if revision == sha {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)
            .and_then(|()| files::write(&path, sha.as_bytes()))
            .map_err(HubError::file(&path))
    }
}

#[cfg(unix)]
fn on_disk(file: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // In units of 512 bytes, whatever the disk's own are.
    file.blocks() * 512
}

#[cfg(not(unix))]
fn on_disk(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
