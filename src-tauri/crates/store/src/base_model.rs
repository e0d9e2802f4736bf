//! From a base model's name to its folder. Nothing is downloaded: what is not on this machine is refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use types::{files, manifest::FileHash};

use crate::{Resources, STARTER, StoreError, hub_cache};

/// A model that can be tuned, and its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    /// As it was asked for.
    pub name: String,
    /// Holds `config.json`, the weights and the tokenizer.
    pub dir: PathBuf,
}

/// The documented sentence for a model that cannot be reached.
pub fn inaccessible(name: &str) -> String {
    format!("Model {name} is not accessible. Please check if you have the required permissions.")
}

impl BaseModel {
    /// Finds `modelforge/starter`, a folder, or a repository in the local cache of the Hugging Face Hub.
    ///
    /// # Errors
    /// [`StoreError::Inaccessible`] where there is no such model on this machine, [`StoreError::IncompleteModel`]
    /// where its folder lacks a file.
    pub fn find(name: &str, resources: &Resources) -> Result<Self, StoreError> {
        let dir = locate(name, resources)?;
        match missing(&dir) {
            Some(missing) => Err(StoreError::IncompleteModel { path: dir, missing }),
            None => Ok(Self { name: name.to_owned(), dir }),
        }
    }

    /// The first of `files` that is not in the folder as it was when it was hashed.
    pub fn changed<'a>(&self, files: &'a [FileHash]) -> Option<&'a FileHash> {
        files.iter().find(|file| {
            let path = self.dir.join(&file.path);
            let same_size = fs::metadata(&path).is_ok_and(|m| m.len() == file.bytes);
            // Weights of the same size are taken to be the same: reading gigabytes at every start is too slow.
            let same = same_size
                && (file.bytes > MAX_HASHED || files::sha256(&path).is_ok_and(|h| h == file.sha256));
            !same
        })
    }
}

/// Larger files are compared by size only.
const MAX_HASHED: u64 = 64 << 20;
/// The largest index of weights that is read.
const MAX_INDEX: u64 = 64 << 20;
/// Names the files of weights that come in parts.
const INDEX: &str = "model.safetensors.index.json";

fn locate(name: &str, resources: &Resources) -> Result<PathBuf, StoreError> {
    let refuse = |hint: &str| StoreError::Inaccessible { name: name.to_owned(), hint: hint.to_owned() };
    if name == STARTER {
        return Ok(resources.starter());
    }
    let folder = Path::new(name);
    if folder.is_dir() {
        return std::path::absolute(folder).map_err(StoreError::io("find", folder));
    }
    if !is_repository(name) {
        return Err(refuse("There is no such folder, and it is no name of a repository (owner/model)."));
    }
    hub_cache::hub_cache().and_then(|cache| hub_cache::find_model(&cache, name)).ok_or_else(|| {
        refuse(
            "It is not in the Hugging Face cache of this machine. A run that is started in the app or over REST downloads \
             it.",
        )
    })
}

/// The first file that every model has and this folder lacks.
pub(crate) fn missing(dir: &Path) -> Option<&'static str> {
    let has = |file: &str| dir.join(file).is_file();
    match () {
        () if !has("config.json") => Some("config.json"),
        () if !(has("tokenizer.json") || has("vocab.txt") || has("vocab.json") && has("merges.txt")) => {
            Some("tokenizer.json")
        }
        () if has("model.safetensors") => None,
        () if !has(INDEX) => Some("model.safetensors"),
        () if !has_all_parts(dir) => Some("weights file that model.safetensors.index.json names"),
        () => None,
    }
}

/// Whether the weights that come in parts are all there. An index that cannot be read is for the engine to complain of.
fn has_all_parts(dir: &Path) -> bool {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = dir.join(INDEX);
    let short = fs::metadata(&path).is_ok_and(|m| m.len() <= MAX_INDEX);
    let index = short.then(|| fs::read(&path).ok()).flatten();
    let index = index.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
    index.is_none_or(|index| index.weight_map.values().all(|part| dir.join(part).is_file()))
}

/// `owner/model`, or a name without owner, in the characters that the Hub allows.
pub(crate) fn is_repository(name: &str) -> bool {
    let part = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !text.is_empty() && !text.starts_with(['.', '-']) && text.bytes().all(plain) && !text.contains("..")
    };
    let mut parts = name.split('/');
    name.len() <= 96 && parts.clone().count() <= 2 && parts.all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            files::write(&dir.join(file), b"{}").unwrap();
        }
    }

    #[test]
    fn a_folder_must_hold_every_part_of_a_model() {
        let temp = tempfile::tempdir().unwrap();
        let resources = Resources::at(temp.path());
        let dir = temp.path().join("mine");
        model(&dir);
        assert_eq!(BaseModel::find(dir.to_str().unwrap(), &resources).unwrap().dir, dir);
        for file in ["tokenizer.json", "model.safetensors", "config.json"] {
            model(&dir);
            fs::remove_file(dir.join(file)).unwrap();
            let error = BaseModel::find(dir.to_str().unwrap(), &resources).unwrap_err();
            assert!(
                matches!(error, StoreError::IncompleteModel { missing, .. } if missing == file),
                "{error}"
            );
        }
    }

    #[test]
    fn weights_in_parts_must_all_be_there() {
        let temp = tempfile::tempdir().unwrap();
        model(temp.path());
        fs::remove_file(temp.path().join("model.safetensors")).unwrap();
        let map = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
        files::write(&temp.path().join(INDEX), map).unwrap();
        files::write(&temp.path().join("model-1.safetensors"), b"").unwrap();
        assert!(missing(temp.path()).is_some(), "a download that was broken off is no whole model");
        files::write(&temp.path().join("model-2.safetensors"), b"").unwrap();
        assert_eq!(missing(temp.path()), None);
    }

    #[test]
    fn the_starter_comes_from_the_bundled_files() {
        let temp = tempfile::tempdir().unwrap();
        model(&temp.path().join("starter"));
        let found = BaseModel::find(STARTER, &Resources::at(temp.path())).unwrap();
        assert_eq!(found.dir, temp.path().join("starter"));
    }

    #[test]
    fn names_that_are_no_repository_never_reach_the_cache() {
        for good in ["gpt2", "HuggingFaceTB/SmolLM2-135M", "a/b.c_d-1"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in
            ["", "/", "a/", "/a", "../x", "a/..", "a/b/c", "a b", "a\\b", "-x/y", ".x", "a/b..c", "ä/b"]
        {
            assert!(!is_repository(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_reached_gets_the_documented_sentence() {
        let temp = tempfile::tempdir().unwrap();
        let error = BaseModel::find("no-such-owner/no-such-model", &Resources::at(temp.path())).unwrap_err();
        let api = types::ApiError::from(error);
        assert_eq!(api.status_code, 403);
        assert!(api.to_string().starts_with(&inaccessible("no-such-owner/no-such-model")), "{api}");
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        model(temp.path());
        let base = BaseModel { name: "m".into(), dir: temp.path().to_owned() };
        let path = temp.path().join("config.json");
        let hash = FileHash { path: "config.json".into(), bytes: 2, sha256: files::sha256(&path).unwrap() };
        assert_eq!(base.changed(std::slice::from_ref(&hash)), None);
        files::write(&path, b"[]").unwrap();
        assert_eq!(base.changed(std::slice::from_ref(&hash)), Some(&hash), "same size, other content");
    }
}
