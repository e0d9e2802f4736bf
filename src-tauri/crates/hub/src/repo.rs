//! Names that come from people and from the Hub, checked before they become part of an address or of a path.

use crate::error::HubError;

/// Checks a repository's name: `owner/name`, or `name` alone as some old models have it.
///
/// # Errors
/// [`HubError::BadRepoName`] with the rule that is broken.
pub fn check_repo_name(name: &str) -> Result<(), HubError> {
    let bad = |why| Err(HubError::BadRepoName { name: name.chars().take(200).collect(), why });
    let parts: Vec<&str> = name.split('/').collect();
    if name.is_empty() || parts.len() > 2 {
        return bad("it has the form owner/name");
    }
    if name.len() > 96 {
        return bad("it is longer than 96 letters");
    }
    for part in parts {
        if part.is_empty() {
            return bad("it has the form owner/name");
        }
        if !part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return bad("it may hold letters, digits, - _ and . only");
        }
        if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
            return bad("neither part may start or end with - or .");
        }
        if part.contains("--") || part.contains("..") {
            return bad("it may not hold -- or ..");
        }
        if part.ends_with(".git") || part.ends_with(".ipynb") {
            return bad("it may not end with .git or .ipynb");
        }
    }
    Ok(())
}

/// Checks a branch, tag or commit, which becomes a file name below `refs/`.
pub(crate) fn check_revision(revision: &str) -> Result<(), HubError> {
    let fits = !revision.is_empty()
        && revision.len() <= 200
        && revision.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(".."));
    if fits { Ok(()) } else { Err(HubError::BadRevision(revision.chars().take(200).collect())) }
}

/// Whether a path that the Hub names stays below the folder it is joined to, on every system.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.len() <= 1024
        && !path.contains(['\\', ':'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

/// Whether `text` is a hash of `length` lower-case hex digits; it becomes a file name.
pub(crate) fn is_hash(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories() {
        let long = format!("a/{}", "b".repeat(100));
        for good in ["gpt2", "HuggingFaceTB/SmolLM2-135M", "a/b_c.d-e", "01-ai/Yi-1.5-6B"] {
            assert!(check_repo_name(good).is_ok(), "{good} is a name that real repositories have");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../etc",
            "a/..",
            "a/b c",
            "a/-b",
            "a/b.",
            "a--b/c",
            "a/b.git",
            "a/b\n",
            "a/é",
            "a\\b",
            "https://huggingface.co/a/b",
            &long,
        ] {
            assert!(check_repo_name(bad).is_err(), "{bad:?} must not become part of an address or a path");
        }
    }

    #[test]
    fn revisions_and_paths_stay_below_their_folder() {
        for good in ["main", "v1.0", "refs/pr/1", "feature/x-y_z"] {
            assert!(check_revision(good).is_ok(), "{good} is a revision");
        }
        for bad in ["", "..", "a/../b", "/main", "main/", ".hidden", "a b", "a\\b", "a?b", "a//b"] {
            assert!(check_revision(bad).is_err(), "{bad:?} must not become a path below refs/");
        }
        for good in ["config.json", "a/b.safetensors", "..name", "with space.txt"] {
            assert!(is_safe_path(good), "{good} stays inside");
        }
        for bad in
            ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "C:\\x", "C:x", "a\\..\\x", "a\0b", "a/"]
        {
            assert!(!is_safe_path(bad), "{bad:?} would leave the folder on some system");
        }
    }
}
