//! `test`: everything CI checks, in one go. All checks run even if one fails, so that one run shows all there is to
//! fix; a check whose tool cannot be had is skipped out loud.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{
    codegen,
    cuda::{self, Cuda},
    process::{cargo, run as execute, say},
    tidy,
    tools::{BROWSER, CARGO_DENY, WINDOW, WINDOW_DRIVER, has_component},
    ui,
};

/// How a check ended.
enum Outcome {
    Passed,
    Skipped(&'static str),
}

type Check = fn() -> Result<Outcome>;

const CHECKS: &[(&str, Check)] = &[
    ("formatting", formatting),
    ("tidy", || tidy::run(&[]).map(|()| Outcome::Passed)),
    ("generated files", || codegen::check().map(|()| Outcome::Passed)),
    ("licenses and sources of dependencies", dependencies),
    ("user interface", user_interface),
    ("libraries of the window", window),
    ("clippy", clippy),
    ("clippy of the engine for cards", engine_for_cards),
];

/// What needs the programs that the tests have built.
const JOURNEYS: &[(&str, Check)] =
    &[("journeys in a browser", browser), ("journeys in the window", real_window)];

pub fn run(arguments: &[String]) -> Result<()> {
    if arguments == ["--gpu"] {
        if cuda::has_driver() {
            return Cuda::find()?.test();
        }
        say("SKIPPED: there is no NVIDIA driver, so no card to compare with the processor.");
        return Ok(());
    }
    let mut filters = Vec::new();
    let mut long = false;
    for argument in arguments {
        match argument.as_str() {
            "--long" => long = true,
            flag if flag.starts_with('-') => bail!("unknown option {flag}; there are only --long and --gpu"),
            filter => filters.push(filter),
        }
    }
    let checks = if filters.is_empty() { CHECKS } else { &[] };
    let mut summary = Vec::new();
    let mut failed = 0;
    for (name, check) in checks {
        say(&format!("\n── {name}"));
        let (line, bad) = timed(name, *check);
        summary.push(line);
        failed += usize::from(bad);
    }
    say("\n── tests");
    let (line, bad) = timed("tests", || tests(&filters, long));
    summary.push(line);
    failed += usize::from(bad);
    for (name, check) in if filters.is_empty() { JOURNEYS } else { &[] } {
        say(&format!("\n── {name}"));
        let (line, bad) = timed(name, *check);
        summary.push(line);
        failed += usize::from(bad);
    }

    say(&format!("\n{}", summary.join("\n")));
    if failed > 0 {
        bail!("{failed} of {} checks failed", summary.len());
    }
    Ok(())
}

/// Builds the tests and the programs that they use.
pub fn build() -> Result<()> {
    execute(cargo().args(["test", "--workspace", "--locked", "--no-run"]).args(features()))
}

fn timed(name: &str, check: impl FnOnce() -> Result<Outcome>) -> (String, bool) {
    let start = Instant::now();
    let result = check();
    let (word, failed) = match &result {
        Ok(Outcome::Passed) => ("ok".to_owned(), false),
        Ok(Outcome::Skipped(why)) => (format!("SKIPPED: {why}"), false),
        Err(error) => {
            say(&format!("{error:#}"));
            ("FAILED".to_owned(), true)
        }
    };
    (format!("{:>6.0} s  {name}: {word}", start.elapsed().as_secs_f64()), failed)
}

fn formatting() -> Result<Outcome> {
    if !has_component("fmt", "rustfmt") {
        return Ok(Outcome::Skipped("rustfmt is not installed and rustup could not add it"));
    }
    execute(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

fn clippy() -> Result<Outcome> {
    if !has_component("clippy", "clippy") {
        return Ok(Outcome::Skipped("clippy is not installed and rustup could not add it"));
    }
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--locked"]).args(features());
    execute(command.args(["--", "--deny", "warnings"]))?;
    Ok(Outcome::Passed)
}

fn engine_for_cards() -> Result<Outcome> {
    match Cuda::find() {
        Ok(cuda) => cuda.clippy().map(|()| Outcome::Passed),
        Err(error) => {
            say(&format!("{error:#}"));
            Ok(Outcome::Skipped("CUDA's compiler is not there and could not be installed"))
        }
    }
}

/// Types and unit tests of the user interface, which the programs then carry.
fn user_interface() -> Result<Outcome> {
    ui::check().map(|()| Outcome::Passed)
}

fn window() -> Result<Outcome> {
    Ok(if WINDOW.is_there_or_installed() {
        Outcome::Passed
    } else {
        Outcome::Skipped("without them, nothing of Tauri is built or tested")
    })
}

/// Tests and clippy are built with the same features, so that dependencies are built once.
fn features() -> &'static [&'static str] {
    if WINDOW.is_there_or_installed() { &["--features", "desktop-test"] } else { &["--no-default-features"] }
}

/// The user interface in a real browser, on `modelforge serve`.
fn browser() -> Result<Outcome> {
    if !BROWSER.is_there_or_installed() {
        return Ok(Outcome::Skipped("there is no Chromium"));
    }
    ui::browser_journey().map(|()| Outcome::Passed)
}

/// The real window, on a screen in memory.
fn real_window() -> Result<Outcome> {
    if !cfg!(target_os = "linux") || !WINDOW.is_there_or_installed() || !WINDOW_DRIVER.is_there_or_installed()
    {
        return Ok(Outcome::Skipped("there is no WebKitWebDriver, Xvfb or D-Bus"));
    }
    ui::built_window_journey().map(|()| Outcome::Passed)
}

/// Security advisories need a database from outside the package registries, so they are CI's on the hosted runners.
fn dependencies() -> Result<Outcome> {
    say(
        "Advisories are not checked here: their database needs the internet (`cargo deny check advisories`).",
    );
    let mut deny = CARGO_DENY.command()?;
    execute(deny.args(["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    Ok(Outcome::Passed)
}

fn tests(filters: &[&str], long: bool) -> Result<Outcome> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(features());
    command.arg("--").args(filters);
    if long {
        command.arg("--include-ignored");
    }
    execute(&mut command)?;
    Ok(Outcome::Passed)
}
