//! The form of the files themselves: what each opens with, its length, and what none may contain.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::process::{in_root, output, root};

/// A file longer than this asks to be split.
const MAX_LINES: usize = 600;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[("ui/src/api/generated.ts", "it is generated")];

/// Anything larger than this slows down every clone.
const MAX_BYTES: u64 = 1_000_000;

/// Files and folders (ending in `/`) that may hold more, and why.
const LARGE: &[(&str, &str)] =
    &[("src-tauri/resources/starter/", "the starter model ships with the program")];

/// What no file of ours may contain, and why. Written in pieces so that this file does not contain it.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (concat!("to", "do!("), &["rs"], "finish it or return an error"),
    (concat!("unimpl", "emented!("), &["rs"], "finish it or return an error"),
    (concat!("db", "g!("), &["rs"], "left over from debugging"),
    (concat!("TO", "DO"), &["rs", "py"], "plans do not belong in the code"),
    (concat!("FIX", "ME"), &["rs", "py"], "plans do not belong in the code"),
    (concat!("/ro", "ot/"), &[], "a path of one machine"),
    (concat!("/ho", "me/"), &[], "a path of one machine"),
    (concat!("/wo", "rk/"), &[], "a path of one machine"),
];

/// One sentence for every file that breaks a rule.
pub fn check() -> Result<Vec<String>> {
    let list = output(in_root("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))
        .context("tidy asks git which files are ours")?;
    let mut problems = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let file = root().join(path);
        // A deleted file is listed until the deletion is committed.
        let Ok(about) = fs::symlink_metadata(&file) else { continue };
        if !about.is_file() {
            continue;
        }
        if about.len() > MAX_BYTES && !LARGE.iter().any(|(large, _)| covers(large, path)) {
            problems.push(format!(
                "{path}: {} bytes, more than {MAX_BYTES} (LARGE in tidy/sources.rs)",
                about.len()
            ));
        }
        let bytes = fs::read(&file).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            problems.extend(problems_of(path, text));
        }
    }
    Ok(problems)
}

fn covers(entry: &str, path: &str) -> bool {
    if entry.ends_with('/') { path.starts_with(entry) } else { path == entry }
}

fn problems_of(path: &str, text: &str) -> Vec<String> {
    let extension = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default();
    let mut problems = Vec::new();

    let mut lines = text.lines().skip_while(|line| line.starts_with("#!/"));
    let first = lines.next().unwrap_or_default();
    let (opening, called) = match extension {
        "rs" => ("//! ", "a `//!` line"),
        "py" => ("\"\"\"", "a docstring"),
        _ => ("", ""),
    };
    if !first.starts_with(opening) || (!opening.is_empty() && first.len() <= opening.len()) {
        problems.push(format!("{path}:1: must open with {called} that says what the file is for"));
    }

    let length = text.lines().count();
    let counted = matches!(extension, "rs" | "py" | "ts" | "svelte");
    if counted && length > MAX_LINES && !LONG.iter().any(|(long, _)| *long == path) {
        problems.push(format!("{path}: {length} lines, more than {MAX_LINES}; split it"));
    }

    for (n, line) in text.lines().enumerate() {
        for (text, extensions, why) in FORBIDDEN {
            if line.contains(text) && (extensions.is_empty() || extensions.contains(&extension)) {
                problems.push(format!("{path}:{}: contains `{text}`: {why}", n + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_breach_and_nothing_else() {
        let long = format!("//! Long.\n{}", "\n".repeat(MAX_LINES));
        let cases: &[(&str, &str, &[&str])] = &[
            ("a.rs", "//! What it is for.\nfn main() {}\n", &[]),
            ("a.rs", "fn main() {}\n", &["a.rs:1: must open"]),
            ("a.rs", "//!\nfn main() {}\n", &["a.rs:1: must open"]),
            ("a.rs", "", &["a.rs:1: must open"]),
            ("a.py", "#!/usr/bin/env python\n\"\"\"What it is for.\"\"\"\n", &[]),
            ("a.py", "import os\n", &["a.py:1: must open"]),
            ("a.rs", &long, &["a.rs: 601 lines"]),
            ("a.jsonl", &"{}\n".repeat(MAX_LINES + 1), &[]),
            ("a.rs", concat!("//! A.\nfn f() { to", "do!() }\n"), &["a.rs:2: contains"]),
            ("a.md", concat!("See /ro", "ot/notes.\n"), &["a.md:1: contains"]),
            ("a.md", concat!("A to", "do!() in prose is not code.\n"), &[]),
        ];
        for (path, text, want) in cases {
            let found = problems_of(path, text);
            assert_eq!(found.len(), want.len(), "{path} with {text:.40?} must give {want:?}, not {found:?}");
            for (found, want) in found.iter().zip(*want) {
                assert!(found.starts_with(want), "{path} must give {want:?}, not {found:?}");
            }
        }
    }

    #[test]
    fn a_folder_on_a_list_covers_what_is_in_it_only() {
        assert!(covers("a/b/", "a/b/c.bin"), "a folder covers its files");
        assert!(!covers("a/b/", "a/bc.bin"), "a folder does not cover its neighbours");
        assert!(!covers("a/b", "a/bc"), "a file covers itself only");
    }
}
