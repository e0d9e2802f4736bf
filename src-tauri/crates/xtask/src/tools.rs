//! The programs the checks need beside cargo. What is missing is installed where that is possible without asking.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use anyhow::{Context, Result};

use crate::process::{cache, cargo, run, say, succeeds};

/// A program published as a crate, kept in our cache so that the user's own tools stay untouched.
pub struct Tool {
    /// The crate and the program.
    pub name: &'static str,
    /// The version all checks run with.
    pub version: &'static str,
}

pub const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
pub const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };

impl Tool {
    /// The folder with the program in it, after installing it if needed.
    pub fn folder(&self) -> Result<PathBuf> {
        let root = cache()?.join("tools").join(format!("{}-{}", self.name, self.version));
        let folder = root.join("bin");
        if !folder.join(format!("{}{}", self.name, std::env::consts::EXE_SUFFIX)).is_file() {
            say(&format!(
                "Installing {} {} into {} (a few minutes, once).",
                self.name,
                self.version,
                root.display()
            ));
            run(cargo()
                .args(["install", "--locked", "--quiet", self.name, "--version", self.version, "--root"])
                .arg(&root)
                // An own folder of build results would be kept for nothing.
                .env_remove("CARGO_TARGET_DIR"))
            .with_context(|| format!("could not install {}", self.name))?;
        }
        Ok(folder)
    }

    /// The program, ready to be given arguments.
    pub fn command(&self) -> Result<Command> {
        Ok(crate::process::in_root(self.folder()?.join(self.name)))
    }
}

/// Whether `cargo <subcommand>` of the toolchain is there, after trying to add the rustup component it is in.
pub fn has_component(subcommand: &str, component: &str) -> bool {
    let there = || succeeds(cargo().args([subcommand, "--version"]));
    there() || {
        say(&format!("{component} is missing; asking rustup for it."));
        succeeds(Command::new("rustup").args(["component", "add", component])) && there()
    }
}

/// Whether what Tauri is linked to is there, after trying to install it. Only Linux has to be asked: macOS and Windows bring
/// theirs.
pub fn has_window_libraries() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    let probe = || succeeds(Command::new("pkg-config").args(["--exists", "webkit2gtk-4.1"]));
    *THERE.get_or_init(|| !cfg!(target_os = "linux") || probe() || (install_window_libraries() && probe()))
}

fn install_window_libraries() -> bool {
    say("WebKitGTK is missing, which Tauri is linked to. Installing libwebkit2gtk-4.1-dev with apt-get.");
    let apt = |arguments: &[&str]| {
        let mut plain = Command::new("apt-get");
        let mut as_root = Command::new("sudo");
        as_root.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
        succeeds(plain.env("DEBIAN_FRONTEND", "noninteractive").args(arguments)) || succeeds(&mut as_root)
    };
    let there = apt(&["update", "-qq"])
        && apt(&["install", "-y", "-qq", "--no-install-recommends", "libwebkit2gtk-4.1-dev", "pkg-config"]);
    if !there {
        say(
            "That was not possible: install the development files of WebKitGTK 4.1 and of GTK 3, and pkg-config.",
        );
    }
    there
}
