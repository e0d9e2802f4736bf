//! Dataset files: every format, read for every task.

use types::{Strategy, Task};

use crate::with_files;

/// How many bad rows a check may collect.
const ERROR_LIMIT: usize = 5;

/// JSON lines.
pub fn dataset_jsonl(bytes: &[u8]) {
    check("rows.jsonl", bytes);
}

/// A JSON array.
pub fn dataset_json(bytes: &[u8]) {
    check("rows.json", bytes);
}

/// Comma-separated values.
pub fn dataset_csv(bytes: &[u8]) {
    check("rows.csv", bytes);
}

/// Parquet.
pub fn dataset_parquet(bytes: &[u8]) {
    check("rows.parquet", bytes);
}

fn check(name: &str, bytes: &[u8]) {
    with_files(&[(name, bytes)], |folder| {
        let path = folder.join(name);
        for &task in Task::ALL {
            let Ok(report) = data::check(&path, task, Strategy::Sft, ERROR_LIMIT) else { continue };
            assert!(report.errors.len() <= ERROR_LIMIT, "no more errors are kept than asked for");
            assert!(report.usable_rows <= report.rows, "a usable row is a row");
            assert!(report.bytes == bytes.len() as u64, "the size is that of the file");
            for error in &report.errors {
                assert!((1..=report.rows).contains(&error.row), "an error is about a row of the file");
            }
        }
    });
}
