//! `run`: build the program and show its main job in the terminal.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::process::{cargo, in_root, run as execute, say, target_folder};

pub fn run(arguments: &[String]) -> Result<()> {
    say("Building ModelForge (release). The first build compiles everything: about 7 minutes on 2 cores.");
    let start = Instant::now();
    execute(cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "modelforge",
        "--bin",
        "modelforge",
    ]))?;
    say(&format!("Built in {:.0} s. Running `modelforge demo`.\n", start.elapsed().as_secs_f64()));

    let program =
        target_folder()?.join("release").join(format!("modelforge{}", std::env::consts::EXE_SUFFIX));
    ensure!(program.is_file(), "cargo built no {}", program.display());
    execute(in_root(program).arg("demo").args(arguments))
}
