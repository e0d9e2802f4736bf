//! From a base model's name to its folder. Nothing is downloaded: what is not on this machine is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

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
        () if !has("tokenizer.json") => Some("tokenizer.json"),
        () if !has("model.safetensors") && !has("model.safetensors.index.json") => Some("model.safetensors"),
        () => None,
    }
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
