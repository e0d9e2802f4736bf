//! Every fuzz target over its committed seeds and a fixed number of mutations of them: what libFuzzer does for hours,
//! here for a second each and the same each time.
#![allow(clippy::unwrap_used)]

use std::{
    fs, panic,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use fuzzing::{TARGETS, Target};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutations of each target.
const MUTATIONS: usize = 300;
/// Longer than any input may take by far, so that only one that does not end is cut off.
const HANG: Duration = Duration::from_secs(120);
/// More memory than any input may take by far.
const MEMORY_MB: u64 = 512;
/// What a mutation may put in place of a number.
const INTERESTING: &[&[u8]] = &[
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616",
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    &[0xff; 8],
    &[0; 8],
    &[0x7f, 0xff, 0xff, 0xff],
    "\u{202e}😀".as_bytes(),
];

/// What the last panic said. Parsers catch those of the libraries they use, so a panic alone is nothing to tell.
static SAID: Mutex<String> = Mutex::new(String::new());

#[test]
fn no_seed_or_mutation_breaks_a_parser() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|info| *SAID.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()));
    let broken: Vec<String> = TARGETS.iter().filter_map(broken).collect();
    panic::set_hook(hook);
    assert!(broken.is_empty(), "any bytes must give a value or an error:\n{}", broken.join("\n"));
}

/// What is wrong with a target, if anything.
fn broken(target: &'static Target) -> Option<String> {
    let seeds = read_seeds(target);
    let (announce, announced) = channel();
    let worker = thread::spawn(move || run(target, &seeds, |input| announce.send(input.to_vec()).is_ok()));
    let mut last = Vec::new();
    let problem = loop {
        match announced.recv_timeout(HANG) {
            Ok(input) => last = input,
            Err(RecvTimeoutError::Timeout) => break Some("does not end".to_owned()),
            Err(RecvTimeoutError::Disconnected) => break worker.join().unwrap_or_else(|_| Some(said())),
        }
    };
    problem.map(|problem| format!("{}: {problem}; {}", target.name, keep(target, &last)))
}

/// The most memory this process has had; 0 where that is not known, which is everywhere but on Linux.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}

fn said() -> String {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn read_seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/seeds").join(target.name);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} must have seeds", target.name);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Gives every seed and then the mutations to the target, each announced before. Ends early, with the problem, where
/// one makes the process much larger.
fn run(target: &Target, seeds: &[Vec<u8>], announce: impl Fn(&[u8]) -> bool) -> Option<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(0x5eed);
    let mutations = (0..MUTATIONS).map(|_| mutate(seeds, &mut rng));
    for input in seeds.iter().cloned().chain(mutations) {
        if !announce(&input) {
            return None;
        }
        let before = peak_mb();
        (target.run)(&input);
        let grown = peak_mb().saturating_sub(before);
        if grown > MEMORY_MB {
            return Some(format!("took {grown} MB"));
        }
    }
    None
}

/// A seed with one to four things done to it.
fn mutate(seeds: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut input = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=input.len());
        let end = (at + rng.random_range(0..=8)).min(input.len());
        match rng.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < input.len() => input[at] = rng.random(),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let word = INTERESTING[rng.random_range(0..INTERESTING.len())];
                input.splice(at..end, word.iter().copied());
            }
            5 => {
                let again = input[at..].to_vec();
                input.splice(at..at, again.into_iter().take(64));
            }
            _ => {
                let other = &seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..256)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    input
}

/// Writes an input to where it can be looked at, and says where.
fn keep(target: &Target, input: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.input", target.name));
    match types::files::write(&path, input) {
        Ok(()) => format!("the input is in {}", path.display()),
        Err(error) => format!("the input could not be kept ({error}): {}", input.escape_ascii()),
    }
}
