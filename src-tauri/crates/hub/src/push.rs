//! Pushing a folder into a repository: create it, ask how each file goes, upload the large ones, commit all at once, and
//! see that the Hub has what was sent.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use reqwest::{Body, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::{
    Hub, OnProgress, Progress,
    error::HubError,
    http::Repeat,
    lfs,
    partial::BlobHash,
    repo::{check_repo_name, is_safe_path},
    token::Token,
};

const BRANCH: &str = "main";
/// The Hub looks at this much of a file to tell text from binary.
const SAMPLE: u64 = 512;
/// The Hub takes so many files in one question.
const FILES_A_QUESTION: usize = 256;
/// What is larger never goes into the commit itself, whatever the Hub says.
const LARGEST_REGULAR: u64 = 32 << 20;

/// What to push, and where to.
#[derive(Debug, Clone)]
pub struct Push {
    /// The folder that the files are in.
    pub folder: PathBuf,
    /// The files, by their paths below the folder, with `/` between the parts; the repository has them so too.
    pub files: Vec<String>,
    /// `owner/name`; a name alone goes to the account of the token.
    pub repo: String,
    /// Whether only its owners see it.
    pub private: bool,
    /// The title of the commit.
    pub message: String,
    /// Whether a repository that has files already may be added to. Files of the same names get a new version there.
    pub into_existing: bool,
}

/// A finished push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The repository's page.
    pub url: String,
    /// The commit that has the files.
    pub commit: String,
    /// How many files the Hub was found to have with the hash that they have here.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// A file of the folder.
pub(crate) struct LocalFile {
    pub path: PathBuf,
    /// As the repository will name it.
    pub name: String,
    /// Bytes.
    pub size: u64,
    sample: Vec<u8>,
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<UploadMode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadMode {
    path: String,
    upload_mode: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: String,
}

impl Hub {
    /// Makes a repository and puts the files into it with one commit. One that is there is filled where it has no files,
    /// as a push that broke off leaves it, and else left alone unless the push is to go into it. What the Hub has already
    /// is not sent again.
    ///
    /// # Errors
    /// [`HubError::NotSignedIn`] without a token, [`HubError::RepositoryExists`] for a name that is taken,
    /// [`HubError::NotAllowed`] where the token may not write there, [`HubError::Unfinished`] where the files did not get
    /// into the repository, [`HubError::NotAsSent`] where they are not what they are here.
    pub async fn push(&self, push: Push, on_progress: OnProgress<'_>) -> Result<Pushed, HubError> {
        check_repo_name(&push.repo)?;
        self.http.online()?;
        let token = self.http.required_token().await?;
        let mut files = Vec::with_capacity(push.files.len());
        for name in &push.files {
            files.push(LocalFile::look(&push, name).await?);
        }
        let repo = match push.repo.contains('/') {
            true => push.repo.clone(),
            false => format!("{}/{}", self.whoami().await?.name, push.repo),
        };
        let parent = match self.create(&repo, push.private, &token).await? {
            true => None,
            false => Some(self.may_go_into(&repo, &push).await?),
        };
        let upload = Upload { hub: self, repo: &repo, token: &token, files: &files, parent };
        match upload.run(&push.message, on_progress).await {
            Ok(commit) => Ok(Pushed {
                url: format!("{}/{repo}", self.endpoint()),
                commit,
                files: files.len() as u64,
                bytes: files.iter().map(|file| file.size).sum(),
            }),
            Err(error @ HubError::NotAsSent { .. }) => Err(error),
            Err(source) => Err(HubError::Unfinished { repo, source: Box::new(source) }),
        }
    }

    /// Whether it was made, which it is not where it is there.
    async fn create(&self, repo: &str, private: bool, token: &Token) -> Result<bool, HubError> {
        let what = format!("make the repository {repo}");
        let (owner, name) = repo.split_once('/').unwrap_or(("", repo));
        let body = json!({ "type": "model", "name": name, "organization": owner, "private": private });
        let url = self.http.url(&["api", "repos", "create"])?;
        let request = self.http.request(Method::POST, url).token(Some(token)).json_body(&body);
        match request.repeat(Repeat::IfNotBegun).json::<Value>(&what).await {
            Ok(_) => Ok(true),
            Err(HubError::Refused { status: 409, .. }) => Ok(false),
            Err(error) => Err(not_allowed(error)),
        }
    }

    /// The newest commit of a repository that was there, if the push may go there.
    async fn may_go_into(&self, repo: &str, push: &Push) -> Result<String, HubError> {
        let exists = || HubError::RepositoryExists { repo: repo.into() };
        let there = match self.model_info(repo).await {
            // A name that is taken by something that one may not see.
            Err(HubError::Inaccessible { .. }) => return Err(exists()),
            other => other?,
        };
        // The Hub makes this file itself. What is to be private must not become public by the way.
        let is_empty = there.files.iter().all(|file| file.path == ".gitattributes");
        let may = push.into_existing || (is_empty && there.private == push.private);
        if may { Ok(there.sha) } else { Err(exists()) }
    }
}

/// A token that is not accepted, or may not do what it was used for.
fn not_allowed(error: HubError) -> HubError {
    match error {
        HubError::Refused { status: 401, by_storage: false, .. } => HubError::TokenRefused,
        HubError::Refused { status: 403, what, said, by_storage: false, .. } => {
            HubError::NotAllowed { what, said }
        }
        other => other,
    }
}

struct Upload<'a> {
    hub: &'a Hub,
    repo: &'a str,
    token: &'a Token,
    files: &'a [LocalFile],
    /// The commit that the files are added to, of a repository that was there.
    parent: Option<String>,
}

/// A file as the Hub must list it afterwards.
struct Sent<'a> {
    file: &'a LocalFile,
    hash: BlobHash,
}

impl Upload<'_> {
    async fn run(&self, message: &str, on_progress: OnProgress<'_>) -> Result<String, HubError> {
        let (large, regular) = self.divide().await?;
        let total = self.files.iter().map(|file| file.size).sum();
        let mut done = 0;
        let mut header = json!({ "summary": message, "description": "" });
        if let Some(parent) = &self.parent {
            // Someone else's commit in the meantime is not written over.
            header["parentCommit"] = json!(parent);
        }
        let mut lines = vec![json!({ "key": "header", "value": header })];
        let mut sent = Vec::with_capacity(self.files.len());
        for object in lfs::Object::of(large).await? {
            let file = object.file;
            let mut tell = |sent: u64| {
                on_progress(Progress { bytes_done: done + sent, bytes_total: total, file: file.name.clone() })
            };
            lfs::upload(&self.hub.http, self.repo, self.token, &object, &mut tell)
                .await
                .map_err(not_allowed)?;
            tell(file.size);
            done += file.size;
            let value = json!({ "path": file.name, "algo": "sha256", "oid": object.oid, "size": file.size });
            lines.push(json!({ "key": "lfsFile", "value": value }));
            sent.push(Sent { file, hash: BlobHash::Sha256(object.oid) });
        }
        for file in regular {
            let bytes = tokio::fs::read(&file.path).await.map_err(HubError::file(&file.path))?;
            let value = json!({ "path": file.name, "encoding": "base64", "content": BASE64.encode(&bytes) });
            lines.push(json!({ "key": "file", "value": value }));
            let hash = BlobHash::Git(String::new()).of(bytes.as_slice(), bytes.len() as u64);
            sent.push(Sent { file, hash: BlobHash::Git(hash.map_err(HubError::file(&file.path))?) });
        }
        let commit = match self.commit(&lines).await {
            // It may have been carried out before the connection broke.
            Err(error) if error.passes() => match self.check(BRANCH, &sent).await {
                Ok(sha) => sha,
                Err(_) => return Err(error),
            },
            other => other?,
        };
        self.check(&commit, &sent).await?;
        if let Some(last) = self.files.last() {
            on_progress(Progress { bytes_done: total, bytes_total: total, file: last.name.clone() });
        }
        Ok(commit)
    }

    /// Looks whether the Hub lists each file with the hash and the size that it has here; gives the commit.
    async fn check(&self, revision: &str, sent: &[Sent<'_>]) -> Result<String, HubError> {
        let there = self.hub.model_info_at(self.repo, revision).await?;
        for Sent { file, hash } in sent {
            let listed = there.files.iter().find(|listed| listed.path == file.name);
            let same = listed.is_some_and(|listed| match hash {
                BlobHash::Sha256(hash) => {
                    listed.sha256.as_ref() == Some(hash) && listed.size == Some(file.size)
                }
                BlobHash::Git(hash) => listed.sha256.is_none() && listed.blob_id.as_ref() == Some(hash),
            });
            if !same {
                return Err(HubError::NotAsSent { repo: self.repo.into(), file: file.name.clone() });
            }
        }
        Ok(there.sha)
    }

    /// The files that go to Git LFS and those that stand in the commit itself, as the Hub wants it.
    async fn divide(&self) -> Result<(Vec<&LocalFile>, Vec<&LocalFile>), HubError> {
        let what = format!("ask how to upload to {}", self.repo);
        let url = self.model_url("preupload")?;
        let (mut large, mut regular) = (Vec::new(), Vec::new());
        for files in self.files.chunks(FILES_A_QUESTION) {
            let question =
                |f: &LocalFile| json!({ "path": f.name, "size": f.size, "sample": BASE64.encode(&f.sample) });
            let body = json!({ "files": files.iter().map(question).collect::<Vec<_>>() });
            let request =
                self.hub.http.request(Method::POST, url.clone()).token(Some(self.token)).json_body(&body);
            let answer: Preupload = request.json(&what).await.map_err(not_allowed)?;
            for file in files {
                let mode = answer.files.iter().find(|mode| mode.path == file.name);
                let mode =
                    mode.ok_or_else(|| HubError::malformed(&what, format!("{} is not in it", file.name)))?;
                match mode.upload_mode.as_str() {
                    // Git LFS has no empty objects.
                    _ if file.size == 0 => regular.push(file),
                    "regular" if file.size <= LARGEST_REGULAR => regular.push(file),
                    _ => large.push(file),
                }
            }
        }
        Ok((large, regular))
    }

    async fn commit(&self, lines: &[Value]) -> Result<String, HubError> {
        let what = format!("commit to {}", self.repo);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let request = self.hub.http.request(Method::POST, self.model_url("commit")?).token(Some(self.token));
        let request = request.body(Some("application/x-ndjson"), || Body::from(text.clone()));
        let answer: Committed = request.repeat(Repeat::IfNotBegun).json(&what).await.map_err(not_allowed)?;
        Ok(answer.commit_oid)
    }

    fn model_url(&self, operation: &str) -> Result<url::Url, HubError> {
        let segments: Vec<&str> =
            ["api", "models"].into_iter().chain(self.repo.split('/')).chain([operation, BRANCH]).collect();
        self.hub.http.url(&segments)
    }
}

impl LocalFile {
    async fn look(push: &Push, name: &str) -> Result<Self, HubError> {
        if !is_safe_path(name) {
            return Err(HubError::UnsafePath { repo: push.repo.clone(), path: name.into() });
        }
        let path = push.folder.join(name);
        let read = async {
            let file = tokio::fs::File::open(&path).await?;
            let size = file.metadata().await?.len();
            let mut sample = Vec::new();
            file.take(SAMPLE).read_to_end(&mut sample).await?;
            Ok((size, sample))
        };
        let (size, sample) = read.await.map_err(HubError::file(&path))?;
        Ok(Self { path, name: name.into(), size, sample })
    }
}
