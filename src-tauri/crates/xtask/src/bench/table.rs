//! Percentiles, tables to look at and tables to keep.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;
use types::files;

use crate::process::{in_root, output, say, target_folder};

/// Where most of the measured values lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub p20: f64,
    pub p50: f64,
    pub p80: f64,
}

impl Spread {
    /// None of no values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share| percentile(&values, share);
        Some(Self { p20: at(0.2)?, p50: at(0.5)?, p80: at(0.8)? })
    }
}

/// The value below which `share` of the sorted values lie, between two of them by their distance.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * (sorted.len().checked_sub(1)? as f64);
    let low = *sorted.get(at.floor() as usize)?;
    let high = *sorted.get(at.ceil() as usize)?;
    Some(low + (high - low) * at.fract())
}

/// A number with so many digits after the point, or a dash.
pub fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Columns of even width: names to the left, numbers to the right.
pub fn aligned(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| match (column, width(column)) {
            (0, width) => format!("{cell:<width$}"),
            (_, width) => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Results of one run in `target/bench`, as CSV: every row begins with the machine and the commit.
pub struct Csv {
    path: PathBuf,
    begin: String,
    text: String,
}

impl Csv {
    /// A file for results of this kind; `header` names the columns after machine and commit.
    pub fn new(kind: &str, header: &str, threads: Option<usize>) -> Result<Self> {
        let folder = target_folder()?.join("bench");
        fs::create_dir_all(&folder)?;
        let commit = commit()?;
        let time = types::id::now_rfc3339().replace([':', '-'], "");
        Ok(Self {
            path: folder.join(format!("{kind}-{commit}-{time}.csv")),
            begin: format!("{},{commit}", quoted(&machine(threads))),
            text: format!("machine,commit,{header}\n"),
        })
    }

    /// Adds a row and writes the file, so that a run that is broken off keeps what it has measured.
    pub fn add(&mut self, cells: &[String]) -> Result<()> {
        self.text.push_str(&format!("{},{}\n", self.begin, cells.join(",")));
        Ok(files::write(&self.path, self.text.as_bytes())?)
    }

    /// Says where the results are, and gives whether there are any.
    pub fn close(self) -> bool {
        if self.path.exists() {
            say(&format!("Kept in {}.", self.path.display()));
        }
        self.path.exists()
    }
}

/// A text as a cell.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The commit, with a mark if the tree differs from it.
fn commit() -> Result<String> {
    let commit = output(in_root("git").args(["rev-parse", "--short=12", "HEAD"]))?;
    let changed = output(in_root("git").args(["status", "--porcelain", "--untracked-files=no"]))?;
    Ok(format!("{}{}", commit.trim(), if changed.trim().is_empty() { "" } else { "-changed" }))
}

/// The processor's name and how many threads compute, as many as it runs at once unless told.
fn machine(threads: Option<usize>) -> String {
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
    let threads = threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(0);
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
        assert_eq!(Spread::of(vec![]), None, "nothing has no median");
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.p20, spread.p50, spread.p80), (1.4, 2.0, 2.6), "values come in any order");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), number(None, 1)]];
        assert_eq!(aligned(&["who", "ms"], &rows), "who   ms\na     10\nlong   -\n");
        assert_eq!(number(Some(0.256), 2), "0.26");
    }

    #[test]
    fn quotes_in_a_cell_are_doubled() {
        assert_eq!(quoted("a \"fast\" one"), "\"a \"\"fast\"\" one\"");
    }
}
