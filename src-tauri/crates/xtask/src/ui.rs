//! The user interface: its packages, its build, its own tests, and the tests that use it in a browser and in the window.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use types::files;

use crate::process::{output, root, run, say, succeeds, target_folder};

/// The oldest Node.js that builds it.
const NODE: u32 = 20;

/// Builds the pages into `ui/dist`, where the server and the window take them from.
pub fn build() -> Result<()> {
    install()?;
    run(npm().args(["run", "--silent", "build"]))
}

/// Types and unit tests.
pub fn check() -> Result<()> {
    build()?;
    run(npm().args(["run", "--silent", "check"]))?;
    run(npm().args(["run", "--silent", "test"]))
}

/// The journeys in a browser, on the server that `cargo test` has built.
pub fn browser_journey() -> Result<()> {
    install()?;
    run(npm()
        .args(["run", "--silent", "e2e", "--", "browser"])
        .env("MODELFORGE_BIN", built("modelforge")?)
        .env("MODELFORGE_RESOURCES", resources()))
}

/// The journeys in the window that `cargo test` has built.
pub fn built_window_journey() -> Result<()> {
    window_journey(&built("modelforge-desktop")?, &built("modelforge")?, Some(&resources()))
}

/// The journeys in this window, with the bundled files at `resources` or where the program finds them by itself.
pub fn window_journey(desktop: &Path, modelforge: &Path, resources: Option<&Path>) -> Result<()> {
    install()?;
    let mut command = npm();
    command.args(["run", "--silent", "e2e", "--", "window"]);
    command.env("MODELFORGE_DESKTOP_BIN", desktop).env("MODELFORGE_BIN", modelforge);
    match resources {
        Some(folder) => command.env("MODELFORGE_RESOURCES", folder),
        None => command.env_remove("MODELFORGE_RESOURCES"),
    };
    run(&mut command)
}

fn built(name: &str) -> Result<PathBuf> {
    Ok(target_folder()?.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

fn resources() -> PathBuf {
    root().join("src-tauri/resources")
}

/// Whether Node.js is there and new enough.
pub fn has_node() -> bool {
    let version = output(Command::new("node").arg("--version")).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|part| part.parse().ok());
    major.is_some_and(|major: u32| major >= NODE)
}

/// Installs what `package-lock.json` names, once.
pub fn install() -> Result<()> {
    ensure!(
        has_node() && succeeds(npm().arg("--version")),
        "the user interface needs Node.js {NODE} or newer with npm; install it from https://nodejs.org"
    );
    let lock = fs::read(folder().join("package-lock.json")).context("cannot read ui/package-lock.json")?;
    let stamp = folder().join("node_modules/.installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    say("Installing the packages of the user interface.");
    run(npm().args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    files::write(&stamp, &lock).context("cannot note what was installed")
}

/// Tauri's command line, which only packages need: npm fetches it when it is used.
pub fn tauri() -> Command {
    let mut command = npm();
    command.current_dir(root()).args(["exec", "--yes", "--package", "@tauri-apps/cli@2.12.5", "--", "tauri"]);
    command
}

pub fn npm() -> Command {
    let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    npm.current_dir(folder());
    npm
}

fn folder() -> PathBuf {
    Path::new(root()).join("ui")
}
