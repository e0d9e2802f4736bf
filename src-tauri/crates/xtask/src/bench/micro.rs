//! `bench micro`: runs the workspace's criterion benchmarks and keeps their spread, one row a benchmark.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::TargetKind;
use serde_json::Value;

use super::{
    child::Limits,
    contenders::Instructions,
    peak::Peak,
    table::{Csv, Spread, aligned, number, quoted},
};
use crate::process::{cargo, metadata, run as execute, say};

const HEADER: &str = "benchmark,p20_ns,p50_ns,p80_ns,gflops,share_of_peak";

/// The crate whose benchmarks state floating-point operations as their throughput's elements. Those with `bf16` in their
/// name are compared with the peak in bf16, the others with that in f32.
const COUNTS_OPERATIONS: &str = "kernels";

/// What criterion measured of one benchmark.
#[derive(Debug, PartialEq)]
struct Measured {
    name: String,
    /// Times of an iteration in ns.
    times: Vec<f64>,
    /// Floating-point operations of an iteration, where it states them.
    operations: Option<f64>,
}

/// Runs those that have `filter` in their name.
pub fn run(filter: &[String], threads: Option<usize>, peak: Option<Peak>) -> Result<()> {
    let metadata = metadata()?;
    let criterion = metadata.target_directory.as_std_path().join("criterion");
    let mut csv = Csv::new("micro", HEADER, threads)?;
    let mut lines = Vec::new();
    for package in metadata.workspace_packages() {
        for bench in package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Bench)) {
            say(&format!("\n── {}: {}", package.name, bench.name));
            let start = SystemTime::now();
            let mut command = cargo();
            command.args(["bench", "--package", &package.name, "--bench", &bench.name, "--"]).args(filter);
            let limits = Limits { instructions: Instructions::All, threads };
            execute(command.envs(limits.environment()).env("CRITERION_HOME", &criterion))?;
            let mut samples = Vec::new();
            if criterion.exists() {
                find_samples(&criterion, start, &mut samples)?;
            }
            samples.sort();
            for sample in &samples {
                let measured = read(sample, package.name.as_str() == COUNTS_OPERATIONS)?;
                let cells = measured.cells(peak)?;
                csv.add(&cells)?;
                lines.push(cells);
            }
        }
    }
    ensure!(!lines.is_empty(), "no benchmark has a name with {}", filter.join(" "));
    say(&format!("\n{}", aligned(&HEADER.split(',').collect::<Vec<_>>(), &lines)));
    csv.close();
    Ok(())
}

/// criterion's raw measurements written since `start`: `<group>/<name>/new/sample.json`.
fn find_samples(folder: &Path, start: SystemTime, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find_samples(&path, start, found)?;
        } else if path.ends_with("new/sample.json") && path.metadata()?.modified()? >= start {
            found.push(path);
        }
    }
    Ok(())
}

/// A `sample.json` and the `benchmark.json` beside it.
fn read(sample: &Path, counts_operations: bool) -> Result<Measured> {
    let read = |path: &Path| -> Result<Value> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
    };
    let about = read(&sample.with_file_name("benchmark.json"))?;
    let name = about["full_id"].as_str().context("benchmark.json without full_id")?.to_owned();
    let measured = read(sample)?;
    let numbers =
        |key: &str| -> Option<Vec<f64>> { measured[key].as_array()?.iter().map(Value::as_f64).collect() };
    let (Some(iterations), Some(times)) = (numbers("iters"), numbers("times")) else {
        bail!("{} has no iters and times", sample.display());
    };
    let operations = about["throughput"]["Elements"].as_f64().filter(|_| counts_operations);
    let times = times.iter().zip(&iterations).map(|(time, n)| time / n).collect();
    Ok(Measured { name, times, operations })
}

impl Measured {
    fn cells(&self, peak: Option<Peak>) -> Result<Vec<String>> {
        let spread = Spread::of(self.times.clone()).context("a benchmark without samples")?;
        let gflops = self.operations.map(|operations| operations / spread.p50);
        let peak = peak.map(|peak| if self.name.contains("bf16") { peak.bf16 } else { peak.f32 });
        let share = gflops.zip(peak).map(|(rate, peak)| rate * 1e9 / peak);
        let times = [spread.p20, spread.p50, spread.p80].map(|time| number(Some(time), 0));
        let rates = [number(gflops, 1), number(share, 3)];
        Ok([quoted(&self.name)].into_iter().chain(times).chain(rates).collect())
    }
}

#[cfg(test)]
mod tests {
    use types::files;

    use super::*;

    #[test]
    fn a_row_divides_each_time_by_its_iterations() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("group/name bf16/new");
        fs::create_dir_all(&new).unwrap();
        let about = br#"{"full_id": "group/name bf16", "throughput": {"Elements": 400}}"#;
        files::write(&new.join("benchmark.json"), about).unwrap();
        let sample = new.join("sample.json");
        files::write(&sample, br#"{"iters": [1.0, 2.0, 4.0], "times": [30.0, 20.0, 80.0]}"#).unwrap();
        let mut found = Vec::new();
        find_samples(folder.path(), SystemTime::UNIX_EPOCH, &mut found).unwrap();
        assert_eq!(found, std::slice::from_ref(&sample), "samples are found at any depth");

        let peak = Some(Peak { f32: 25e9, bf16: 100e9 });
        let row = |counts| read(&sample, counts).unwrap().cells(peak).unwrap().join(",");
        assert_eq!(
            row(true),
            "\"group/name bf16\",14,20,26,20.0,0.200",
            "p20, p50, p80 of 10, 20, 30; 400 operations in 20 ns, a fifth of 100 GFLOP/s"
        );
        assert_eq!(row(false), "\"group/name bf16\",14,20,26,-,-", "elements need not be operations");
    }
}
