//! Every fuzz target over its committed seeds and a fixed number of mutations of them: what libFuzzer does for hours,
//! here for a second each and the same each time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use fuzzing::{TARGETS, Target};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutations of each target.
const MUTATIONS: usize = 400;
/// Longer than any input may take by far, so that only one that does not end is cut off.
const HANG: Duration = Duration::from_secs(120);
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

#[test]
fn no_seed_or_mutation_breaks_a_parser() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/seeds");
    for target in TARGETS {
        let seeds = read_seeds(&seeds.join(target.name));
        assert!(!seeds.is_empty(), "{} must have seeds", target.name);
        let (report, reports) = channel();
        let seeds_of_thread = seeds.clone();
        let worker =
            thread::spawn(move || run(target, &seeds_of_thread, |input| report.send(input.to_vec()).is_ok()));
        let mut last = Vec::new();
        loop {
            match reports.recv_timeout(HANG) {
                Ok(input) => last = input,
                Err(RecvTimeoutError::Timeout) => panic!("{} must end; {}", target.name, keep(target, &last)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        assert!(worker.join().is_ok(), "{} must not panic; {}", target.name, keep(target, &last));
    }
}

#[test]
fn every_target_has_a_program_and_no_program_is_without_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        let program = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            program.contains(&format!("fuzzing::{name}(")),
            "fuzz_targets/{name}.rs must call its target"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} must be in fuzz/Cargo.toml");
    }
    for folder in ["fuzz_targets", "seeds"].map(|name| folder.join(name)) {
        assert_eq!(fs::read_dir(folder).unwrap().count(), TARGETS.len(), "nothing may be without a target");
    }
}

fn read_seeds(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Gives every seed and then the mutations to the target, each announced before.
fn run(target: &Target, seeds: &[Vec<u8>], announce: impl Fn(&[u8]) -> bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(0x5eed);
    let mutations = (0..MUTATIONS).map(|_| mutate(seeds, &mut rng));
    for input in seeds.iter().cloned().chain(mutations) {
        if !announce(&input) {
            return;
        }
        (target.run)(&input);
    }
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
