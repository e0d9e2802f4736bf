//! `tidy`: the rules of this repository that no compiler checks.

mod crates;
mod sources;

use anyhow::{Result, bail, ensure};

use crate::process::say;

pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "tidy takes no arguments");
    let mut problems = crates::check()?;
    problems.extend(sources::check()?);
    for problem in &problems {
        say(problem);
    }
    match problems.len() {
        0 => Ok(()),
        n => bail!("{n} {}", if n == 1 { "rule is broken" } else { "rules are broken" }),
    }
}
