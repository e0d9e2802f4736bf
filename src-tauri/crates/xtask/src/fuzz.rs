//! `fuzz`: runs the targets of `fuzz/` under libFuzzer. The bounded run that every test run makes needs none of this;
//! it is in the crate `fuzzing`.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    process::{in_root, root, run as execute, say, succeeds},
    tools::CARGO_FUZZ,
};

/// A single input may take this long before it counts as a hang.
const TIMEOUT_SECONDS: u32 = 10;
/// A target may use this much memory before it counts as a leak.
const MEMORY_MB: u32 = 2048;

pub fn run(arguments: &[String]) -> Result<()> {
    let mut only = None;
    let mut seconds = 60u32;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                seconds = words
                    .next()
                    .and_then(|n| n.parse().ok())
                    .context("--seconds needs a number: how long each target runs")?;
            }
            flag if flag.starts_with('-') => bail!("unknown option {flag}; there is only --seconds"),
            target => only = Some(target),
        }
    }
    let targets = targets()?;
    if let Some(target) = only {
        ensure!(targets.iter().any(|t| t == target), "no target {target}; there are {}", targets.join(", "));
    }
    let nightly = || {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly"]);
        command
    };
    ensure!(
        succeeds(nightly().args(["rustc", "--version"])),
        "fuzzing needs a nightly toolchain: `rustup toolchain install nightly`"
    );
    let tool = CARGO_FUZZ.folder()?.join(CARGO_FUZZ.name);
    // The same versions of everything as the program has.
    fs::copy(root().join("Cargo.lock"), root().join("fuzz/Cargo.lock")).context("cannot copy Cargo.lock")?;
    let mut failed = Vec::new();
    for target in targets.iter().filter(|target| only.is_none_or(|only| only == *target)) {
        say(&format!("\n── {target}, {seconds} s"));
        let corpus = root().join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let mut command = in_root("rustup");
        command
            .args(["run", "nightly"])
            .arg(&tool)
            .args(["run", target])
            .arg(&corpus)
            .arg(root().join("fuzz/seeds").join(target))
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={TIMEOUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MB}"))
            // What cargo tells its children about the stable toolchain would bind the nightly one.
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN");
        if let Err(error) = execute(&mut command) {
            say(&format!("{error:#}"));
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "found something in {}; the inputs are in fuzz/artifacts", failed.join(", "));
    Ok(())
}

/// The names of the programs in `fuzz/`.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
