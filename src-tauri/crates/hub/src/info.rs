//! What a model's repository is, and whether it can really be read.

use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Hub,
    error::{HubError, Inaccessible},
    repo::{check_repo_name, check_revision, is_hash, is_safe_path},
    token::Token,
};

/// A model's repository at one commit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelInfo {
    /// The name under which the Hub keeps it, which may differ from the name it was asked for.
    pub id: String,
    /// Who it belongs to.
    pub author: Option<String>,
    /// Downloads of the last 30 days.
    pub downloads: Option<u64>,
    /// How many accounts like it.
    pub likes: Option<u64>,
    /// The commit that was looked at.
    pub sha: String,
    /// Whether only its owners see it.
    pub private: bool,
    /// Whether its terms have to be accepted first.
    pub gated: bool,
    /// The task it is made for, such as `text-generation`.
    pub pipeline_tag: Option<String>,
    /// The library it is made for, such as `transformers` or `peft`.
    pub library_name: Option<String>,
    /// Its license, such as `apache-2.0`.
    pub license: Option<String>,
    /// Its files.
    pub files: Vec<RepoFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RepoFile {
    /// The path below the repository's root.
    pub path: String,
    /// Bytes.
    pub size: Option<u64>,
    /// SHA-256 of the content, for files kept in Git LFS.
    pub sha256: Option<String>,
    /// The id that git gives the content (or, for a file in Git LFS, its pointer).
    #[serde(skip)]
    pub(crate) blob_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: String,
    author: Option<String>,
    downloads: Option<u64>,
    likes: Option<u64>,
    sha: Option<String>,
    #[serde(default)]
    private: bool,
    /// `false`, or how access is granted: `"auto"`, `"manual"`.
    #[serde(default)]
    gated: Value,
    #[serde(rename = "pipeline_tag")]
    pipeline_tag: Option<String>,
    #[serde(rename = "library_name")]
    library_name: Option<String>,
    #[serde(default)]
    card_data: Value,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// Looks at the newest commit of a model's repository.
    ///
    /// A gated repository shows its description to everyone, so its `config.json` is asked for as well.
    ///
    /// # Errors
    /// [`HubError::Inaccessible`] for one that is missing, private, gated and not granted, or closed to this token.
    pub async fn model_info(&self, repo: &str) -> Result<ModelInfo, HubError> {
        self.model_info_at(repo, "main").await
    }

    /// [`Hub::model_info`] at a branch, tag or commit.
    ///
    /// # Errors
    /// As for [`Hub::model_info`].
    pub async fn model_info_at(&self, repo: &str, revision: &str) -> Result<ModelInfo, HubError> {
        check_repo_name(repo)?;
        check_revision(revision)?;
        self.http.online()?;
        let what = format!("look at {repo} on the Hub");
        let token = self.http.tokens().get().await?;
        let mut segments = vec!["api", "models"];
        segments.extend(repo.split('/'));
        segments.extend(["revision", revision]);
        let mut url = self.http.url(&segments)?;
        url.set_query(Some("blobs=true"));
        let request = self.http.request(Method::GET, url).token(token.as_ref());
        let answer: Answer = request.json(&what).await.map_err(|e| inaccessible(repo, e))?;
        let info = answer.checked(repo, &what)?;
        if info.gated {
            self.check_access(&info, token.as_ref()).await?;
        }
        Ok(info)
    }

    async fn check_access(&self, info: &ModelInfo, token: Option<&Token>) -> Result<(), HubError> {
        let probe = info.files.iter().find(|f| f.path == "config.json").or(info.files.first());
        let Some(probe) = probe else { return Ok(()) };
        let url = self.file_url(&info.id, &info.sha, &probe.path)?;
        let request = self.http.request(Method::HEAD, url).token(token).without_following();
        let what = format!("read {} of {}", probe.path, info.id);
        request.send(&what).await.map(|_| ()).map_err(|e| inaccessible(&info.id, e))
    }

    pub(crate) fn file_url(&self, repo: &str, revision: &str, path: &str) -> Result<url::Url, HubError> {
        let segments: Vec<&str> =
            repo.split('/').chain(["resolve", revision]).chain(path.split('/')).collect();
        self.http.url(&segments)
    }
}

impl Answer {
    fn checked(self, repo: &str, what: &str) -> Result<ModelInfo, HubError> {
        let sha = self.sha.filter(|sha| is_hash(sha, 40));
        let sha = sha.ok_or_else(|| HubError::malformed(what, "it names no commit"))?;
        if check_repo_name(&self.id).is_err() {
            return Err(HubError::malformed(what, "it names no repository"));
        }
        let mut files = Vec::with_capacity(self.siblings.len());
        for sibling in self.siblings {
            let Sibling { rfilename: path, size, blob_id, lfs } = sibling;
            if !is_safe_path(&path) {
                let path = path.chars().take(200).collect();
                return Err(HubError::UnsafePath { repo: repo.into(), path });
            }
            let hashes_fit = blob_id.as_deref().is_none_or(|id| is_hash(id, 40))
                && lfs.as_ref().and_then(|l| l.sha256.as_deref()).is_none_or(|sha| is_hash(sha, 64));
            if !hashes_fit {
                return Err(HubError::malformed(what, format!("the hash of {path} is none")));
            }
            let size = lfs.as_ref().and_then(|lfs| lfs.size).or(size);
            files.push(RepoFile { path, size, sha256: lfs.and_then(|lfs| lfs.sha256), blob_id });
        }
        let license = license(&self.card_data, &self.tags);
        Ok(ModelInfo {
            id: self.id,
            author: self.author,
            downloads: self.downloads,
            likes: self.likes,
            sha,
            private: self.private,
            gated: !matches!(self.gated, Value::Null | Value::Bool(false)),
            pipeline_tag: self.pipeline_tag,
            library_name: self.library_name,
            license,
            files,
        })
    }
}

fn license(card: &Value, tags: &[String]) -> Option<String> {
    // Some cards have the name of a license that is not a known one beside `license: other`.
    let text = |key: &str| card.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("license") {
        Some("other") => text("license_name").or(Some("other")).map(str::to_string),
        Some(license) => Some(license.to_string()),
        None => tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_string),
    }
}

/// What the Hub's refusal of a read says about the repository.
pub(crate) fn inaccessible(repo: &str, error: HubError) -> HubError {
    let HubError::Refused { status, code, said, by_storage: false, .. } = &error else { return error };
    let why = match (*status, code.as_str()) {
        (401 | 403, _) if said.contains("Invalid credentials") => Inaccessible::TokenRefused,
        (401 | 403, "GatedRepo") => Inaccessible::Gated,
        (404, "RevisionNotFound") => Inaccessible::NoSuchRevision,
        // The Hub answers 401 for what is missing too, so as not to tell what is private.
        (401 | 404, "RepoNotFound" | "") => Inaccessible::MissingOrPrivate,
        (401, _) => Inaccessible::MissingOrPrivate,
        (403, _) if said == "Access to this resource is disabled." => Inaccessible::Disabled,
        (403, _) => Inaccessible::NotAllowed,
        (451, _) => Inaccessible::Disabled,
        _ => return error,
    };
    HubError::Inaccessible { repo: repo.into(), why }
}
