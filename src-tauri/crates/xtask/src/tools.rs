//! The programs the checks need beside cargo. What is missing is installed where that is possible without asking.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

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
pub const CARGO_CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };
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

/// Something of the operating system's. Only Linux has to be asked: elsewhere it is there, or cannot be had.
pub struct System {
    /// What it is for.
    what: &'static str,
    /// Commands that all succeed where it is installed.
    probes: &'static [&'static [&'static str]],
    /// Debian's packages.
    packages: &'static [&'static str],
}

/// What Tauri is linked to.
pub const WINDOW: System = System {
    what: "WebKitGTK 4.1, which the window is linked to, and the library of its icon in the tray",
    probes: &[&["pkg-config", "--exists", "webkit2gtk-4.1", "ayatana-appindicator3-0.1"]],
    packages: &["libwebkit2gtk-4.1-dev", "libayatana-appindicator3-dev", "pkg-config"],
};

/// What drives the window without a screen.
pub const WINDOW_DRIVER: System = System {
    what: "a driver and a screen in memory for tests of the window",
    probes: &[
        &["WebKitWebDriver", "--help"],
        &["Xvfb", "-help"],
        &["dbus-daemon", "--version"],
        &["dbus-monitor", "--help"],
        &["test", "-x", "/usr/bin/dbus-test-tool"],
        &["xdotool", "--version"],
    ],
    packages: &[
        "webkit2gtk-driver",
        "xvfb",
        "dbus",
        "dbus-bin",
        "dbus-tests",
        "dbus-x11",
        "xdotool",
        "fonts-dejavu-core",
    ],
};

/// What tests of the user interface run in.
pub const BROWSER: System = System {
    what: "Chromium, for tests of the user interface",
    probes: &[&["chromium", "--version"]],
    packages: &["chromium", "fonts-dejavu-core"],
};

impl System {
    /// Whether it is there, after trying to install it.
    pub fn is_there_or_installed(&self) -> bool {
        static ASKED: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
        if !cfg!(target_os = "linux") {
            return self.packages.contains(&"pkg-config") || self.is_there();
        }
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(self.what).or_insert_with(|| self.is_there() || (self.install() && self.is_there()))
    }

    fn is_there(&self) -> bool {
        self.probes.iter().all(|probe| match probe {
            [program, arguments @ ..] => succeeds(Command::new(program).args(arguments.iter())),
            [] => true,
        })
    }

    fn install(&self) -> bool {
        let packages = self.packages.join(" ");
        say(&format!("Missing: {}. Installing {packages} with apt-get.", self.what));
        let apt = |arguments: &[&str]| {
            let mut plain = Command::new("apt-get");
            let mut as_root = Command::new("sudo");
            as_root.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
            succeeds(plain.env("DEBIAN_FRONTEND", "noninteractive").args(arguments)) || succeeds(&mut as_root)
        };
        let install = [&["install", "-y", "-qq", "--no-install-recommends"], self.packages].concat();
        let there = apt(&["update", "-qq"]) && apt(&install);
        if !there {
            say(&format!("That was not possible. Install {packages}, or what your system calls them."));
        }
        there
    }
}
