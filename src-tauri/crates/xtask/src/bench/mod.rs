//! `bench`: measures our programs and, beside them in the same run, their peers; what comes out is kept as CSV.
//!
//! Its parts: `micro` runs the workspace's criterion benchmarks, `train` optimizer steps against PyTorch with PEFT, `decode`
//! generation against transformers. The peers are Python scripts (`peers/`) in an environment of their own.

mod busy;
mod child;
mod contenders;
mod decode;
mod job;
mod micro;
mod peak;
mod shapes;
mod table;
mod train;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use busy::Busy;
use child::Limits;
use contenders::Instructions;
use peak::Peak;

use crate::{
    process::{cache, in_root, root, say},
    python,
};

const PARTS: [&str; 3] = ["micro", "train", "decode"];

/// What `--quick` measures where nothing is named.
const QUICK: [&str; 4] =
    ["train", "A", "4x256", "torch-f32,torch-autocast,reference-f32,reference-bf16,fused-bf16"];

/// What the parts that have peers need.
pub struct Bench {
    names: Names,
    /// How often each contender has its turn, and the optimizer steps of a turn.
    rounds: usize,
    steps: usize,
    /// Of every contender; each decides for itself where none are given.
    threads: Option<usize>,
    python: PathBuf,
    program: PathBuf,
    peak: Peak,
}

impl Bench {
    /// Whether a benchmark, such as `train/A/4x256/torch-f32`, is to be measured.
    fn wants(&self, name: &str) -> bool {
        self.names.match_all(name)
    }

    /// What a contender may use.
    fn limits(&self, instructions: Instructions) -> Limits {
        Limits { instructions, threads: self.threads }
    }

    /// Our engine doing `what`.
    fn engine(&self, what: &str) -> Command {
        let mut command = in_root(&self.program);
        command.args(["engine", what]);
        command
    }
}

pub fn run(arguments: &[String]) -> Result<()> {
    let Options { words, quick, threads } = Options::parse(arguments)?;
    let part = words.first().map(String::as_str).filter(|word| PARTS.contains(word));
    let wants = |name| part.is_none_or(|part| part == name);

    let requirements = root().join("src-tauri/crates/xtask/peers/requirements.txt");
    if part == Some("micro") {
        // The only part that needs no peers: without them, it tells no share of the peak.
        let python = python::existing(&cache()?, &requirements)?;
        let peak = python.map(|python| peak_of(&python, threads)).transpose()?;
        return micro::run(&words[1..], threads, peak);
    }
    let python = python::environment(&cache()?, &requirements)?;
    let peak = peak_of(&python, threads)?;
    if wants("micro") && words.is_empty() {
        micro::run(&[], threads, Some(peak))?;
    }
    let (rounds, steps) = if quick { (2, 4) } else { (3, 6) };
    let program = child::modelforge()?;
    let bench = Bench { names: Names(words.clone()), rounds, steps, threads, python, program, peak };
    let trained = wants("train") && train::run(&bench)?;
    let decoded = wants("decode") && decode::run(&bench)?;
    ensure!(trained || decoded, "nothing that could be measured is called {}", words.join(" "));
    Ok(())
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
struct Options {
    words: Vec<String>,
    quick: bool,
    threads: Option<usize>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--threads" => {
                    let number = arguments.next().and_then(|number| number.parse().ok()).filter(|&n| n > 0);
                    options.threads = Some(number.context("--threads takes a number")?);
                }
                flag if flag.starts_with('-') => {
                    bail!("bench takes names, --quick and --threads N, not {flag}")
                }
                _ => options.words.push(argument.clone()),
            }
        }
        if options.quick && options.words.is_empty() {
            options.words = QUICK.map(String::from).to_vec();
        }
        Ok(options)
    }
}

fn peak_of(python: &Path, threads: Option<usize>) -> Result<Peak> {
    let peak = peak::measure(python, threads)?;
    say(&format!(
        "This machine's peak: {:.0} GFLOP/s in f32, {:.0} in bf16.",
        peak.f32 / 1e9,
        peak.bf16 / 1e9
    ));
    Ok(peak)
}

/// Rounds in which every contender has its turn, so that whatever else the machine does meets them all. `turn` adds what
/// it measured and gives a line to say; where it fails, the contender has no more turns and is no result. Also gives how busy
/// the machine was beside it.
fn in_turn<'a, C: fmt::Display, M: Default>(
    rounds: usize,
    contenders: &[&'a C],
    mut turn: impl FnMut(&C, &mut M) -> Result<String>,
) -> (Vec<(&'a C, M)>, Busy) {
    let mut busy = Busy::default();
    let mut rows: Vec<(&C, M)> = contenders.iter().map(|&contender| (contender, M::default())).collect();
    for round in 1..=rounds {
        rows.retain_mut(|(contender, measured)| {
            busy.look();
            let outcome = turn(contender, measured);
            match &outcome {
                Ok(line) => say(&format!("round {round} of {rounds}: {:<28} {line}", contender.to_string())),
                Err(error) => say(&format!("left out: {contender}: {error:#}")),
            }
            outcome.is_ok()
        });
    }
    busy.warn();
    (rows, busy)
}

/// Words that pick benchmarks: each must be a part of the name between slashes, or one of its pieces between commas must;
/// a `*` at the end stands for any ending.
struct Names(Vec<String>);

impl Names {
    fn match_all(&self, name: &str) -> bool {
        let fits = |piece: &str| {
            name.split('/').any(|part| match piece.strip_suffix('*') {
                Some(beginning) => part.starts_with(beginning),
                None => part == piece,
            })
        };
        self.0.iter().all(|word| word.split(',').any(fits))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn contenders_take_turns_and_one_that_fails_drops_out() {
        let mut order = Vec::new();
        let (rows, _) = in_turn(2, &[&"a", &"b", &"c"], |name, turns: &mut usize| {
            order.push(*name);
            *turns += 1;
            if *name == "b" { bail!("no such provider") } else { Ok(String::new()) }
        });
        assert_eq!(order, ["a", "b", "c", "a", "c"], "a round is over before the next begins");
        assert_eq!(rows, [(&"a", 2), (&"c", 2)], "what failed is no result");
    }

    #[test]
    fn flags_and_names_come_in_any_order() {
        let parse =
            |line: &str| Options::parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>());
        let words = vec!["train".to_owned(), "A".to_owned()];
        let options = parse("train --threads 1 A --quick").unwrap();
        assert_eq!(options, Options { words, quick: true, threads: Some(1) });
        assert_eq!(parse("--quick").unwrap().words, QUICK, "a first look needs no names");
        assert_eq!(parse("").unwrap(), Options::default(), "without anything, all is measured");
        for wrong in ["--threads", "--threads 0", "--threads x", "--fast"] {
            parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn names_are_picked_by_their_parts() {
        for (words, fits) in [
            ("", true),
            ("train", true),
            ("decode", false),
            ("train A 4x256", true),
            ("A/4x256", false),
            ("torch-f32", false),
            ("torch-*", true),
            ("4x256 torch-f32,torch-f32-avx2", true),
            ("S,A train", true),
            ("S train", false),
        ] {
            let names = Names(words.split_whitespace().map(String::from).collect());
            assert_eq!(names.match_all("train/A/4x256/torch-f32-avx2"), fits, "{words:?}");
        }
    }
}
