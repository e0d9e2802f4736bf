//! `bench`: runs the workspace's criterion benchmarks and keeps their spread as CSV, one row a benchmark.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::TargetKind;
use serde_json::Value;
use types::files;

use crate::process::{cargo, in_root, metadata, output, run as execute, say};

const HEADER: &str = "machine,commit,benchmark,p20_ns,p50_ns,p80_ns\n";

pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(!arguments.iter().any(|a| a.starts_with('-')), "bench takes only a filter for names");
    let metadata = metadata()?;
    let benches = metadata.workspace_packages().into_iter().flat_map(|package| {
        package
            .targets
            .iter()
            .filter(|target| target.kind.contains(&TargetKind::Bench))
            .map(move |target| (package.name.as_str(), target.name.as_str()))
    });
    let target = metadata.target_directory.as_std_path();
    let criterion = target.join("criterion");
    let start = SystemTime::now();
    let mut any = false;
    for (package, bench) in benches {
        any = true;
        say(&format!("\n── {package}: {bench}"));
        let mut command = cargo();
        command.args(["bench", "--package", package, "--bench", bench, "--"]).args(arguments);
        execute(command.env("CRITERION_HOME", &criterion))?;
    }
    ensure!(any, "the workspace has no benchmarks");

    let mut samples = Vec::new();
    find_samples(&criterion, start, &mut samples)?;
    ensure!(!samples.is_empty(), "no benchmark has a name with {}", arguments.join(" "));
    samples.sort();
    let (machine, commit) = (machine(), commit()?);
    let mut table = HEADER.to_owned();
    for sample in &samples {
        table.push_str(&row(sample, &machine, &commit)?);
    }
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{commit}.csv"));
    files::write(&file, table.as_bytes())?;
    say(&format!("\n{table}\nkept in {}", file.display()));
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

/// One row of the table from a `sample.json` and the `benchmark.json` beside it.
fn row(sample: &Path, machine: &str, commit: &str) -> Result<String> {
    let read = |path: &Path| -> Result<Value> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
    };
    let about = read(&sample.with_file_name("benchmark.json"))?;
    let name = about["full_id"].as_str().context("benchmark.json without full_id")?;
    let measured = read(sample)?;
    let numbers =
        |key: &str| -> Option<Vec<f64>> { measured[key].as_array()?.iter().map(Value::as_f64).collect() };
    let (Some(iterations), Some(times)) = (numbers("iters"), numbers("times")) else {
        bail!("{} has no iters and times", sample.display());
    };
    let mut each: Vec<f64> = times.iter().zip(&iterations).map(|(time, n)| time / n).collect();
    each.sort_by(f64::total_cmp);
    let mut row = format!("{},{commit},{}", quoted(machine), quoted(name));
    for share in [0.2, 0.5, 0.8] {
        let _ = write!(row, ",{:.0}", percentile(&each, share).context("a benchmark without samples")?);
    }
    row.push('\n');
    Ok(row)
}

/// The value below which `share` of the sorted values lie, between two of them by their distance.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * (sorted.len().checked_sub(1)? as f64);
    let low = *sorted.get(at.floor() as usize)?;
    let high = *sorted.get(at.ceil() as usize)?;
    Some(low + (high - low) * at.fract())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The commit, with a mark if the tree differs from it.
fn commit() -> Result<String> {
    let commit = output(in_root("git").args(["rev-parse", "--short=12", "HEAD"]))?;
    let changed = output(in_root("git").args(["status", "--porcelain", "--untracked-files=no"]))?;
    Ok(format!("{}{}", commit.trim(), if changed.trim().is_empty() { "" } else { "-changed" }))
}

/// The processor's name and how many threads it runs at once.
fn machine() -> String {
    let linux = || {
        let text = fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        line.split_once(':').map(|(_, name)| name.trim().to_owned())
    };
    let mac = || {
        let name = output(Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"])).ok()?;
        Some(name.trim().to_owned())
    };
    let windows = || std::env::var("PROCESSOR_IDENTIFIER").ok();
    let name = linux().or_else(mac).or_else(windows).unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{name}, {threads} threads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_their_neighbours() {
        let values = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        assert_eq!(percentile(&values, 0.2), Some(20.0), "p20 of six values is the second");
        assert_eq!(
            percentile(&values, 0.5),
            Some(35.0),
            "the median of an even count is between the middle two"
        );
        assert_eq!(percentile(&values, 1.0), Some(60.0), "the last is the largest");
        assert_eq!(percentile(&[], 0.5), None, "nothing has no median");
    }

    #[test]
    fn a_row_divides_each_time_by_its_iterations() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("group/name/new");
        fs::create_dir_all(&new).unwrap();
        files::write(&new.join("benchmark.json"), br#"{"full_id": "group/name"}"#).unwrap();
        let sample = new.join("sample.json");
        files::write(&sample, br#"{"iters": [1.0, 2.0, 4.0], "times": [30.0, 20.0, 80.0]}"#).unwrap();
        let row = row(&sample, "a \"fast\" one", "abc").unwrap();
        assert_eq!(
            row, "\"a \"\"fast\"\" one\",abc,\"group/name\",14,20,26\n",
            "p20, p50, p80 of 10, 20, 30"
        );

        let mut found = Vec::new();
        find_samples(folder.path(), SystemTime::UNIX_EPOCH, &mut found).unwrap();
        assert_eq!(found, [sample], "samples are found at any depth");
    }
}
