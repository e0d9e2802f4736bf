//! `run`: builds the program and opens it; without a display, shows its main job in the terminal.

use std::{env, time::Instant};

use anyhow::{Result, ensure};

use crate::{
    process::{cargo, in_root, run as execute, say, target_folder},
    tools::WINDOW,
    ui,
};

pub fn run(arguments: &[String]) -> Result<()> {
    say("Building ModelForge (release). The first build compiles everything: about 12 minutes on 2 cores.");
    let start = Instant::now();
    let pages = ui::has_node();
    if pages {
        ui::build()?;
    } else {
        say("There is no Node.js 20 or newer, so the user interface is left out.");
    }
    let window = pages && has_display() && WINDOW.is_there_or_installed();
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "modelforge", "--bins"]);
    if !window {
        build.arg("--no-default-features");
    }
    execute(&mut build)?;
    say(&format!("Built in {:.0} s.\n", start.elapsed().as_secs_f64()));

    let program = |name: &str| -> Result<_> {
        let path = target_folder()?.join("release").join(format!("{name}{}", env::consts::EXE_SUFFIX));
        ensure!(path.is_file(), "cargo built no {}", path.display());
        Ok(path)
    };
    if window && arguments.is_empty() {
        say("Opening the window. Ctrl-C here closes it.");
        return execute(&mut in_root(program("modelforge-desktop")?));
    }
    let modelforge = program("modelforge")?;
    say("Running `modelforge demo`.\n");
    execute(in_root(&modelforge).arg("demo").args(arguments))?;
    if pages {
        say(&format!("\nThe user interface, in a browser: {} serve", modelforge.display()));
    }
    Ok(())
}

/// Whether a window can be shown here.
fn has_display() -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}
