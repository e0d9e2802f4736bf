//! What the server knows: accounts, repositories with their commits, contents under their hashes.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::Request,
    http::header::{AUTHORIZATION, RANGE, USER_AGENT},
};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Endings that the Hub keeps in Git LFS whatever their size, as its default `.gitattributes` says.
const LARGE_ENDINGS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".onnx",
    ".h5",
    ".msgpack",
    ".parquet",
    ".zip",
    ".model",
];
/// Larger files go to Git LFS whatever they are called.
const LARGEST_REGULAR: u64 = 10 << 20;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// An account with one token.
#[derive(Debug, Clone)]
pub struct User {
    /// Its namespace.
    pub name: String,
    /// Its access token.
    pub token: String,
    /// What the token allows.
    pub role: Role,
    /// Organizations whose namespaces it may write to.
    pub organizations: Vec<String>,
}

/// Who may see a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// Everyone.
    Public,
    /// The members of its namespace.
    Private,
    /// Everyone sees what it is; the accounts named here (and its own namespace) may read its files.
    Gated(Vec<String>),
}

/// How a repository misbehaves. What has `times` happens that often and then no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// 503 to any request.
    Unavailable {
        /// How often.
        times: u32,
    },
    /// 429 to any request.
    RateLimited {
        /// How often.
        times: u32,
        /// The seconds that the answer asks to wait.
        retry_after: u64,
    },
    /// The connection breaks while a file is served.
    Drop {
        /// How often.
        times: u32,
        /// After how many bytes.
        after: u64,
    },
    /// A pause before each piece of 64 KiB that is served.
    Slow(Duration),
    /// A served file ends early, as if that were all of it.
    Truncate {
        /// How often.
        times: u32,
        /// After how many bytes.
        after: u64,
    },
    /// The connection stays open while a file is served, and nothing comes.
    Stall {
        /// How often.
        times: u32,
        /// After how many bytes.
        after: u64,
    },
    /// The storage answers with this status.
    StorageFails {
        /// How often.
        times: u32,
        /// Such as 403, which is what an address gets whose time is over.
        status: u16,
    },
    /// A file's address leads to itself.
    RedirectLoop,
    /// Files are served from their start, whatever was asked for.
    IgnoreRange,
    /// The last byte of a served file is another one.
    WrongByte,
    /// The list of files has this name in it.
    HostileName(String),
    /// The description of the repository has this many bytes more than it should.
    Bloated(usize),
    /// Every request is refused with 400 and a text that repeats the `Authorization` header.
    RepeatsToken,
    /// Any write of a commit fails with 500.
    NoCommits,
    /// A commit is written, and its answer is a 500 all the same.
    AnswerLost,
    /// What is committed gets another last byte.
    KeepsWrong,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Such as `GET`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Whether it had an `Authorization` header.
    pub with_token: bool,
    /// Its `Range` header.
    pub range: Option<String>,
    /// Its `User-Agent` header.
    pub user_agent: String,
}

impl Seen {
    pub(crate) fn of(request: &Request) -> Self {
        let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_string(),
            with_token: header(AUTHORIZATION).is_some(),
            range: header(RANGE),
            user_agent: header(USER_AGENT).unwrap_or_default(),
        }
    }
}

/// A file of a commit.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Git's hash of the content, or of the pointer for a file in Git LFS.
    pub oid: String,
    /// Bytes of the content.
    pub size: u64,
    pub sha256: Option<String>,
}

impl Entry {
    /// What clients call the content by.
    pub(crate) fn etag(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.oid)
    }
}

/// What a file holds: some bytes and, up to its size, zeros.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    head: Bytes,
    pub size: u64,
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u64, head: bytes.into() }
    }
}

impl Content {
    pub(crate) fn with_zeros(head: &[u8], size: u64) -> Self {
        Self { head: Bytes::copy_from_slice(head), size: size.max(head.len() as u64) }
    }

    pub(crate) fn part(&self, start: u64, end: u64) -> Bytes {
        let length = self.head.len() as u64;
        let head = self.head.slice(start.min(length) as usize..end.min(length) as usize);
        if end <= length {
            return head;
        }
        let mut bytes = head.to_vec();
        bytes.resize((end - start) as usize, 0);
        bytes.into()
    }

    fn sha256(&self) -> String {
        let mut sha256 = Sha256::new();
        sha256.update(&self.head);
        let zeros = vec![0; 1 << 20];
        let mut left = self.size - self.head.len() as u64;
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            sha256.update(&zeros[..n as usize]);
            left -= n;
        }
        hex(&sha256.finalize())
    }
}

pub(crate) type Tree = BTreeMap<String, Entry>;

#[derive(Debug)]
pub(crate) struct Repo {
    pub visibility: Visibility,
    pub commits: BTreeMap<String, Tree>,
    /// The commit of the main branch.
    pub head: String,
    pub troubles: Vec<Trouble>,
}

impl Repo {
    pub(crate) fn new(visibility: Visibility) -> Self {
        Self { visibility, commits: BTreeMap::new(), head: String::new(), troubles: Vec::new() }
    }

    /// The commit that a branch or a commit's own name means.
    pub(crate) fn resolve<'a>(&'a self, revision: &'a str) -> Option<&'a str> {
        let sha = if revision == "main" { self.head.as_str() } else { revision };
        self.commits.contains_key(sha).then_some(sha)
    }

    pub(crate) fn tree(&self, revision: &str) -> Option<&Tree> {
        self.commits.get(self.resolve(revision)?)
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub users: Vec<User>,
    pub repos: HashMap<String, Repo>,
    blobs: HashMap<String, Content>,
    objects: HashMap<String, Content>,
    /// Parts of uploads, by the object they belong to.
    pub parts: HashMap<String, BTreeMap<u64, Bytes>>,
    pub seen: Vec<Seen>,
}

impl World {
    pub(crate) fn keep_blob(&mut self, bytes: Vec<u8>) -> Entry {
        let oid = git_hash(&bytes);
        let size = bytes.len() as u64;
        self.blobs.insert(oid.clone(), Content::from(bytes));
        Entry { oid, size, sha256: None }
    }

    pub(crate) fn keep_object(&mut self, content: Content) -> Entry {
        let (sha256, size) = (content.sha256(), content.size);
        self.objects.insert(sha256.clone(), content);
        Entry { oid: git_hash(pointer(&sha256, size).as_bytes()), size, sha256: Some(sha256) }
    }

    /// The file that an object of Git LFS is, where the object is there and has this size.
    pub(crate) fn object_entry(&self, oid: &str, size: u64) -> Option<Entry> {
        let there = self.objects.get(oid).filter(|content| content.size == size)?;
        let size = there.size;
        Some(Entry { oid: git_hash(pointer(oid, size).as_bytes()), size, sha256: Some(oid.into()) })
    }

    pub(crate) fn object(&self, oid: &str) -> Option<Content> {
        self.objects.get(oid).cloned()
    }

    pub(crate) fn content(&self, entry: &Entry) -> Option<Content> {
        match &entry.sha256 {
            Some(sha256) => self.objects.get(sha256).cloned(),
            None => self.blobs.get(&entry.oid).cloned(),
        }
    }

    /// Puts files into, or takes them out of, the main branch; gives the new commit's name.
    pub(crate) fn commit(
        &mut self,
        id: &str,
        title: &str,
        changes: Vec<(String, Option<Entry>)>,
    ) -> Option<String> {
        let repo = self.repos.get_mut(id)?;
        let mut tree = repo.commits.get(&repo.head).cloned().unwrap_or_default();
        for (path, entry) in changes {
            match entry {
                Some(entry) => tree.insert(path, entry),
                None => tree.remove(&path),
            };
        }
        let text = format!(
            "{id}\n{title}\n{}\n{:?}",
            repo.head,
            tree.iter().map(|(p, e)| (p, &e.oid)).collect::<Vec<_>>()
        );
        let sha = hex(&Sha1::digest(text));
        repo.commits.insert(sha.clone(), tree);
        repo.head = sha.clone();
        Some(sha)
    }

    /// Takes one of the troubles of a repository that `pick` recognises; it says what is left of it.
    pub(crate) fn suffer<T>(&mut self, id: &str, pick: impl Fn(&mut Trouble) -> Option<T>) -> Option<T> {
        self.repos.get_mut(id)?.troubles.iter_mut().find_map(pick)
    }
}

/// Counts down; false once it is at zero.
pub(crate) fn once_more(times: &mut u32) -> bool {
    let left = *times > 0;
    *times = times.saturating_sub(1);
    left
}

pub(crate) fn is_large(path: &str, size: u64) -> bool {
    size > 0 && (size > LARGEST_REGULAR || LARGE_ENDINGS.iter().any(|ending| path.ends_with(ending)))
}

/// The text that git keeps in place of a large file.
pub(crate) fn pointer(sha256: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

pub(crate) fn git_hash(bytes: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(format!("blob {}\0", bytes.len()));
    sha1.update(bytes);
    hex(&sha1.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A valid safetensors file with one tensor of `count` numbers, none of them like its neighbour.
pub fn tiny_safetensors(count: usize) -> Vec<u8> {
    let mut header =
        format!(r#"{{"weight":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{}]}}}}"#, count * 4)
            .into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend((0..count).flat_map(|i| (i as f32).sin().to_le_bytes()));
    bytes
}
