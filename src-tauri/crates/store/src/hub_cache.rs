//! The local cache of the Hugging Face Hub, in the layout that the Python tools share:
//! `models--owner--name/{blobs,refs,snapshots}`. It is only read here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{StoreError, base_model, folder};

/// Where the Python tools keep what they download: `HF_HUB_CACHE`, `HF_HOME/hub`, `~/.cache/huggingface/hub`.
pub fn hub_cache() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| directories::BaseDirs::new().map(|dirs| dirs.home_dir().join(".cache/huggingface/hub")))
}

/// What a repository of the Hub holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepositoryKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
    /// An app.
    Space,
}

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CachedRepository {
    /// `owner/name`, or a name without owner.
    pub name: String,
    /// What it holds.
    pub kind: RepositoryKind,
    /// What it takes on disk, all of its snapshots together, in bytes.
    pub bytes: u64,
    /// The repository's folder in the cache.
    pub path: PathBuf,
    /// The folder of the newest snapshot, where it is a model with every part that tuning needs.
    pub base_model: Option<PathBuf>,
}

/// All repositories in the cache of this machine, by name.
pub fn cached_repositories() -> Result<Vec<CachedRepository>, StoreError> {
    hub_cache().map_or_else(|| Ok(Vec::new()), |cache| repositories(&cache))
}

pub(crate) fn repositories(cache: &Path) -> Result<Vec<CachedRepository>, StoreError> {
    let mut found = Vec::new();
    for path in folder::entries(cache)? {
        let Some((kind, name)) = path.file_name().and_then(|name| name.to_str()).and_then(parse) else {
            continue;
        };
        if !path.is_dir() {
            continue;
        }
        let snapshot = if kind == RepositoryKind::Model { snapshot(&path) } else { None };
        found.push(CachedRepository {
            name,
            kind,
            bytes: folder::bytes(&path)?,
            base_model: snapshot.filter(|dir| base_model::missing(dir).is_none()),
            path,
        });
    }
    found.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    Ok(found)
}

/// The newest snapshot of a model's main branch.
pub(crate) fn find_model(cache: &Path, name: &str) -> Option<PathBuf> {
    snapshot(&cache.join(format!("models--{}", name.replace('/', "--"))))
}

/// `refs/main` names the commit whose snapshot it is.
fn snapshot(repository: &Path) -> Option<PathBuf> {
    let reference = repository.join("refs/main");
    let short = fs::metadata(&reference).is_ok_and(|m| m.len() <= 128);
    let commit = short.then(|| fs::read_to_string(&reference).ok()).flatten()?;
    let commit = commit.trim();
    let snapshot = repository.join("snapshots").join(commit);
    let plain = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_alphanumeric());
    (plain && snapshot.is_dir()).then_some(snapshot)
}

/// What a folder's name says; `None` for what is no repository, such as `.locks`.
fn parse(folder: &str) -> Option<(RepositoryKind, String)> {
    let (kind, name) = folder.split_once("--")?;
    let kind = match kind {
        "models" => RepositoryKind::Model,
        "datasets" => RepositoryKind::Dataset,
        "spaces" => RepositoryKind::Space,
        _ => return None,
    };
    // No name on the Hub has two dashes in a row.
    let name = name.replacen("--", "/", 1);
    base_model::is_repository(&name).then_some((kind, name))
}

#[cfg(test)]
mod tests {
    use types::files;

    use super::*;

    /// A repository with one snapshot of `files`, each a link to a blob where the system has links.
    fn repository(cache: &Path, folder: &str, files: &[&str]) {
        let repository = cache.join(folder);
        let snapshot = repository.join("snapshots/abc123");
        for part in [&repository.join("blobs"), &repository.join("refs"), &snapshot] {
            fs::create_dir_all(part).unwrap();
        }
        files::write(&repository.join("refs/main"), b"abc123").unwrap();
        for file in files {
            let blob = repository.join("blobs").join(file);
            files::write(&blob, &[b'x'; 1000]).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(&blob, snapshot.join(file)).unwrap();
            #[cfg(not(unix))]
            fs::rename(&blob, snapshot.join(file)).unwrap();
        }
    }

    #[test]
    fn the_cache_is_read_through_its_main_branch() {
        let temp = tempfile::tempdir().unwrap();
        repository(temp.path(), "models--org--name", &["config.json"]);
        let folder = temp.path().join("models--org--name");
        assert_eq!(find_model(temp.path(), "org/name"), Some(folder.join("snapshots/abc123")));
        for hostile in ["../../..", "", "/etc", "abc123/../abc123", "gone"] {
            files::write(&folder.join("refs/main"), hostile.as_bytes()).unwrap();
            assert_eq!(find_model(temp.path(), "org/name"), None, "{hostile:?} is no commit that is here");
        }
        fs::remove_file(folder.join("refs/main")).unwrap();
        assert_eq!(find_model(temp.path(), "org/name"), None, "without a main branch there is no snapshot");
    }

    #[test]
    fn repositories_are_counted_once_and_whole_models_told_apart() {
        const WHOLE: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
        let temp = tempfile::tempdir().unwrap();
        let cache = temp.path();
        repository(cache, "models--org--whole", &WHOLE);
        repository(cache, "models--gpt2", &WHOLE[..2]);
        repository(cache, "datasets--org--rows", &WHOLE);
        for other in [".locks", "models--", "models--..--x", "version--1", "notes"] {
            fs::create_dir_all(cache.join(other).join("refs")).unwrap();
        }
        files::write(&cache.join("models--org--file"), b"x").unwrap();
        let found = repositories(cache).unwrap();
        let short: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.kind, r.base_model.is_some())).collect();
        let want = [
            ("gpt2", RepositoryKind::Model, false),
            ("org/rows", RepositoryKind::Dataset, false),
            ("org/whole", RepositoryKind::Model, true),
        ];
        assert_eq!(short, want, "repositories only, and which of them can be tuned");
        assert_eq!(found[2].bytes, 3 * 1000 + 6, "links to blobs take nothing");
        assert_eq!(found[2].base_model, Some(cache.join("models--org--whole/snapshots/abc123")));
        assert!(repositories(&cache.join("none")).unwrap().is_empty(), "there need not be a cache");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_in_a_circle_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        repository(temp.path(), "models--a--b", &["config.json"]);
        let folder = temp.path().join("models--a--b");
        std::os::unix::fs::symlink(&folder, folder.join("snapshots/again")).unwrap();
        assert_eq!(repositories(temp.path()).unwrap()[0].bytes, 1006);
    }
}
