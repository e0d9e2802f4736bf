//! Running a contender: its lines as they come, and the most memory it has had, asked of the system at each.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::contenders::Instructions;
use crate::process::{cargo, in_root, root, run, target_folder};

/// What a contender may use of the processor.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub instructions: Instructions,
    pub threads: Option<usize>,
}

impl Limits {
    /// Variables that hold a program to them. OpenMP's is torch's, rayon's is ours.
    pub fn environment(self) -> Vec<(&'static str, String)> {
        let instructions =
            self.instructions.environment().iter().map(|&(name, value)| (name, value.to_owned()));
        let threads = ["OMP_NUM_THREADS", "RAYON_NUM_THREADS"]
            .into_iter()
            .filter_map(|name| Some((name, self.threads?.to_string())));
        instructions.chain(threads).collect()
    }
}

/// What a contender told and needed.
#[derive(Debug, Default)]
pub struct Told {
    /// Its lines, in order. The first is told before it has loaded anything but its own code.
    pub lines: Vec<Value>,
    /// Peak memory in bytes at the first line, and at the last one that the system was asked at.
    pub memory: Option<(u64, u64)>,
}

impl Told {
    /// The lines of one kind.
    pub fn events(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| line["event"] == kind)
    }
}

/// Runs a contender to its end, with `input` on its standard input.
pub fn follow(command: &mut Command, limits: Limits, input: &str) -> Result<Told> {
    let mut complaints = tempfile::tempfile()?;
    let mut child = command
        .envs(limits.environment())
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    // Held open until the end: a chat engine ends with its input.
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // One that does not read to the end has ended, and its status says how.
        stdin.write_all(input.as_bytes()).ok();
    }
    let mut told = Told::default();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        told.lines.push(serde_json::from_str(&line?).context("a line that is not JSON")?);
        if let Some(now) = peak(child.id()) {
            let (first, before) = told.memory.unwrap_or((now, now));
            told.memory = Some((first, before.max(now)));
        }
    }
    let status = child.wait()?;
    drop(stdin);
    if !status.success() {
        let mut text = String::new();
        complaints.rewind()?;
        complaints.read_to_string(&mut text)?;
        bail!(
            "{status}: {}",
            text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
        );
    }
    Ok(told)
}

/// The most memory a process has had resident, in bytes: `VmHWM` of proc(5). Systems without it tell nothing.
fn peak(process: u32) -> Option<u64> {
    high_water_mark(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// A script beside the requirements of the peers.
pub fn script(python: &Path, name: &str) -> Command {
    let mut command = in_root(python);
    command.arg(root().join("src-tauri/crates/xtask/peers").join(name));
    command
}

/// The program that `MODELFORGE_BIN` names; else what ships, without its window, built here.
pub fn modelforge() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("MODELFORGE_BIN") {
        return Ok(program.into());
    }
    run(cargo().args(["build", "--release", "--package", "modelforge", "--no-default-features"]))?;
    Ok(target_folder()?.join("release").join(format!("modelforge{}", std::env::consts::EXE_SUFFIX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t    12 kB\nVmRSS:\t 10 kB\n";
        assert_eq!(high_water_mark(status), Some(12 * 1024), "VmPeak is address space, not memory");
        assert_eq!(high_water_mark("Name:\tx\n"), None);
    }

    #[test]
    fn a_contender_that_fails_is_told_with_its_last_words() {
        let free = Limits { instructions: Instructions::All, threads: None };
        let error = follow(cargo().arg("no-such-subcommand"), free, "").unwrap_err().to_string();
        assert!(error.starts_with("exit"), "{error}");
        let told = follow(cargo().args(["metadata", "--no-deps", "--format-version=1"]), free, "");
        assert!(told.unwrap().lines[0]["packages"].is_array(), "a line of JSON is one event");
    }
}
