//! The machine's measured peak, which shares are taken of.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    child::{Limits, follow, script},
    contenders::Instructions,
};

/// Operations a second of torch's fastest large matrix product, on as many threads as it uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    pub f32: f64,
    pub bf16: f64,
}

/// Measures it, in a few seconds.
pub fn measure(python: &Path, threads: Option<usize>) -> Result<Peak> {
    let limits = Limits { instructions: Instructions::All, threads };
    let told = follow(&mut script(python, "peak.py"), limits, "")?;
    let line = told.events("peak").next().context("peak.py told nothing")?;
    let rate = |dtype: &str| line[dtype].as_f64().with_context(|| format!("peak.py told no {dtype}"));
    Ok(Peak { f32: rate("f32")?, bf16: rate("bf16")? })
}
