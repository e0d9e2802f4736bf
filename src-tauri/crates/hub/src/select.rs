//! Which files of a repository a model needs here: settings, tokenizer, weights as safetensors, nothing else.

use std::path::Path;

use crate::{
    cache::RepoCache,
    error::HubError,
    info::{ModelInfo, RepoFile},
};

const SETTINGS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    // Its license goes into the card of what is made of it.
    "README.md",
];
const ADAPTER: &str = "adapter_model.safetensors";
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Formats whose readers run code that stands in the file, or that other programs read.
const OTHER_WEIGHTS: &[&str] =
    &[".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".gguf", ".h5", ".msgpack", ".onnx"];

impl ModelInfo {
    /// Bytes that a download into the cache still takes on the disk; `repo` is the name it is asked for by.
    ///
    /// # Errors
    /// [`HubError::NoSafetensors`] where there are no weights that can be loaded safely.
    pub fn missing_bytes(&self, cache_dir: &Path, repo: &str) -> Result<u64, HubError> {
        let cache = RepoCache::new(cache_dir, repo);
        let missing = |file: &RepoFile| {
            let size = file.size.unwrap_or_default();
            match file.sha256.as_ref().or(file.blob_id.as_ref()) {
                Some(hash) => cache.missing(hash, size),
                None => size,
            }
        };
        Ok(wanted(self)?.into_iter().map(missing).fold(0, u64::saturating_add))
    }

    /// Bytes of the files that a download brings, as far as the Hub tells them.
    ///
    /// # Errors
    /// [`HubError::NoSafetensors`] where there are no weights that can be loaded safely.
    pub fn download_bytes(&self) -> Result<u64, HubError> {
        Ok(wanted(self)?.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size.unwrap_or_default())))
    }
}

/// The files to download, largest last.
pub(crate) fn wanted(info: &ModelInfo) -> Result<Vec<&RepoFile>, HubError> {
    // Folders hold the same weights in other forms, and old checkpoints.
    let top = || info.files.iter().filter(|file| !file.path.contains('/'));
    let has = |name: &str| top().any(|file| file.path == name);
    let is_weights = |path: &str| match path.strip_suffix(".safetensors") {
        _ if path == ADAPTER => true,
        None => false,
        Some(_) if has(WHOLE) => path == WHOLE,
        Some(_) if has(INDEX) => path.starts_with("model-"),
        Some(_) => true,
    };
    let mut files: Vec<&RepoFile> = top()
        .filter(|file| {
            let path = file.path.as_str();
            is_weights(path) || SETTINGS.contains(&path) || (path == INDEX && !has(WHOLE))
        })
        .collect();
    if !files.iter().any(|file| is_weights(&file.path)) {
        let found = top().find(|file| OTHER_WEIGHTS.iter().any(|ending| file.path.ends_with(ending)));
        return Err(HubError::NoSafetensors { repo: info.id.clone(), found: found.map(|f| f.path.clone()) });
    }
    files.sort_by_key(|file| file.size);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(paths: &[&str]) -> Result<Vec<String>, HubError> {
        let file =
            |path: &&str| RepoFile { path: path.to_string(), size: Some(1), sha256: None, blob_id: None };
        let info = ModelInfo {
            id: "a/b".into(),
            author: None,
            downloads: None,
            likes: None,
            sha: "0".repeat(40),
            private: false,
            gated: false,
            pipeline_tag: None,
            library_name: None,
            license: None,
            files: paths.iter().map(file).collect(),
        };
        Ok(wanted(&info)?.into_iter().map(|file| file.path.clone()).collect())
    }

    #[test]
    fn a_model_is_downloaded_once_and_without_what_is_not_needed() {
        let cases: &[(&[&str], &[&str])] = &[
            (
                &[
                    "README.md",
                    "config.json",
                    "model.safetensors",
                    "pytorch_model.bin",
                    "onnx/model.safetensors",
                ],
                &["README.md", "config.json", "model.safetensors"],
            ),
            (
                &[
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                    INDEX,
                    "consolidated.safetensors",
                ],
                &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX],
            ),
            (&["adapter_config.json", ADAPTER, "optimizer.pt"], &["adapter_config.json", ADAPTER]),
            (&["weights.safetensors", "tokenizer.json"], &["weights.safetensors", "tokenizer.json"]),
            (&["model.safetensors", INDEX, "model-1-of-1.safetensors"], &["model.safetensors"]),
        ];
        for (there, want) in cases {
            assert_eq!(pick(there).unwrap(), *want, "of {there:?}");
        }
    }

    #[test]
    fn weights_that_could_run_code_are_refused_by_name() {
        for (there, name) in [
            (&["config.json", "pytorch_model.bin"][..], Some("pytorch_model.bin")),
            (&["model.pth"], Some("model.pth")),
            (&["model.Q4_K_M.gguf"], Some("model.Q4_K_M.gguf")),
            (&["config.json"], None),
            (&["sub/model.safetensors"], None),
        ] {
            match pick(there) {
                Err(HubError::NoSafetensors { found, .. }) => {
                    assert_eq!(found.as_deref(), name, "of {there:?}")
                }
                other => panic!("{there:?} must be refused, not {other:?}"),
            }
        }
    }
}
