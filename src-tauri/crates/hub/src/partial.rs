//! A file that is being downloaded, whose pieces arrive in any order, and which of them have arrived.
//!
//! It is as long as the whole file, and behind that stands a table: for each piece, how many of its bytes are there. A
//! piece is written before its line of the table, so that a process that is killed has noted nothing that is missing. A
//! power cut can turn that round; whatever the table says, only the hash of the whole file makes it believed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::HubError;

/// Bytes of a piece. Large enough for a connection to come up to speed.
pub(crate) const PIECE: u64 = 16 << 20;
const LINE: u64 = 8;

/// The hash that names a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobHash {
    /// SHA-256 of the content, of a file in Git LFS.
    Sha256(String),
    /// Git's own hash, of any other.
    Git(String),
}

impl BlobHash {
    pub(crate) fn text(&self) -> &str {
        match self {
            BlobHash::Sha256(text) | BlobHash::Git(text) => text,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            BlobHash::Sha256(_) => "SHA-256",
            BlobHash::Git(_) => "SHA-1",
        }
    }

    /// The same hash of `size` bytes that are read. Blocks.
    pub(crate) fn of(&self, content: impl Read, size: u64) -> io::Result<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            BlobHash::Sha256(_) => Ok(hex(&digest(Sha256::new(), content, size)?.finalize())),
            BlobHash::Git(_) => {
                let mut sha1 = Sha1::new();
                sha1.update(format!("blob {size}\0"));
                Ok(hex(&digest(sha1, content, size)?.finalize()))
            }
        }
    }
}

fn digest<D: Digest>(mut digest: D, content: impl Read, size: u64) -> io::Result<D> {
    let mut content = content.take(size);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(digest),
            n => digest.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// A file that is being written, by one process at a time.
pub(crate) struct Partial {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    /// Bytes of each piece but the last.
    piece: u64,
    arrived: Mutex<Vec<u64>>,
}

/// Where the bytes of a piece are in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// The first that is missing.
    pub next: u64,
    /// One past the last.
    pub end: u64,
}

impl Partial {
    /// Takes over what an earlier download left. In one piece, where the server cannot begin in the middle.
    pub(crate) async fn open(path: PathBuf, size: u64, in_one_piece: bool) -> Result<Self, HubError> {
        let piece = if in_one_piece { size.max(1) } else { PIECE };
        let shown = path.clone();
        let opened = blocking(move || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let pieces = size.div_ceil(piece).max(1);
            let length = file.metadata()?.len();
            let mut arrived = vec![0; pieces as usize];
            if length == size && size > 0 {
                // Complete but for its hash and its name.
                arrived = (0..pieces).map(|index| piece.min(size - index * piece)).collect();
                file.set_len(size + pieces * LINE)?;
            } else if length == size + pieces * LINE {
                for (index, there) in (0..).zip(&mut arrived) {
                    let mut line = [0; LINE as usize];
                    read_at(&file, &mut line, size + index * LINE)?;
                    let told = u64::from_le_bytes(line);
                    // More than there can be was not written here.
                    *there = if told <= piece.min(size - index * piece) { told } else { 0 };
                }
            } else {
                // Of another program or another size: nothing of it can be made out.
                file.set_len(0)?;
                file.set_len(size + pieces * LINE)?;
            }
            Ok((file, path, arrived))
        });
        let (file, path, arrived) = opened.await.map_err(HubError::file(shown))?;
        Ok(Self { path, file: Arc::new(file), size, piece, arrived: Mutex::new(arrived) })
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<u64>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pieces(&self) -> usize {
        self.arrived().len()
    }

    /// Bytes that are there.
    pub(crate) fn there(&self) -> u64 {
        self.arrived().iter().sum()
    }

    pub(crate) fn span(&self, index: usize) -> Span {
        let start = index as u64 * self.piece;
        let there = self.arrived().get(index).copied().unwrap_or_default();
        Span { next: start + there, end: (start + self.piece).min(self.size) }
    }

    /// Adds to a piece, which must have room for it.
    pub(crate) async fn write(&self, index: usize, bytes: Vec<u8>) -> Result<(), HubError> {
        let at = self.span(index).next;
        let there = at + bytes.len() as u64 - index as u64 * self.piece;
        let line = self.size + index as u64 * LINE;
        let file = Arc::clone(&self.file);
        let written = blocking(move || {
            write_at(&file, &bytes, at)?;
            write_at(&file, &there.to_le_bytes(), line)
        });
        written.await.map_err(HubError::file(&self.path))?;
        if let Some(piece) = self.arrived().get_mut(index) {
            *piece = there;
        }
        Ok(())
    }

    /// Begins a piece again.
    pub(crate) fn forget(&self, index: usize) {
        if let Some(piece) = self.arrived().get_mut(index) {
            *piece = 0;
        }
    }

    pub(crate) async fn discard(&self) {
        // What cannot be removed is found damaged again.
        let _ = tokio::fs::remove_file(&self.path).await;
    }

    /// Gives the file its name, if its content is the right one; else the hash that it has.
    pub(crate) async fn publish(self, hash: &BlobHash, blob: &Path) -> Result<Result<(), String>, HubError> {
        let (path, size) = (self.path.clone(), self.size);
        let wanted = hash.clone();
        let checked = blocking(move || {
            let got = wanted.of(File::open(&path)?, size)?;
            if got != wanted.text() {
                return Ok(Err(got));
            }
            self.file.set_len(size)?;
            self.file.sync_all()?;
            Ok(Ok(self.path))
        });
        match checked.await.map_err(HubError::file(blob))? {
            Ok(path) => {
                tokio::fs::rename(&path, blob).await.map_err(HubError::file(blob))?;
                Ok(Ok(()))
            }
            Err(got) => Ok(Err(got)),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
        at += n as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let n = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
    if n == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
