//! Datasets by the names that runs take: checking them, and remembering which ones were used.

use std::path::{Path, PathBuf};

use data::DataError;
use store::table::datasets::DatasetRow;
use types::{ApiError, Strategy, Task, dataset::DatasetReport, id};

use crate::{Api, Topic};

impl Api {
    /// Checks a dataset for the task that is asked for, or for the first one that its rows' form goes with, and
    /// remembers it as used.
    ///
    /// # Errors
    /// 400 for a file that cannot be read as a dataset at all; bad rows are a part of the report.
    pub async fn check_dataset(
        &self,
        dataset: &str,
        task: Option<Task>,
        strategy: Option<Strategy>,
        errors: usize,
    ) -> Result<(DatasetReport, Task), ApiError> {
        let sample = self.resources.sample(dataset)?;
        let task = task.or(sample.map(|sample| sample.task));
        let path = self.dataset_path(dataset)?;
        let checked = move || check(&path, task, strategy, errors);
        let (report, task) =
            crate::blocking(checked).await?.map_err(|e| ApiError::bad_request(e.to_string()))?;
        self.store.put_dataset(&row(dataset, &report, task))?;
        self.announce(Topic::Datasets, None);
        Ok((report, task))
    }
}

fn row(name: &str, report: &DatasetReport, task: Task) -> DatasetRow {
    DatasetRow {
        name: name.to_owned(),
        path: PathBuf::clone(&report.path).to_string_lossy().into_owned(),
        task: task.to_string(),
        format: report.format,
        rows: report.rows,
        usable_rows: report.usable_rows,
        bytes: report.bytes,
        checked_at: id::now_rfc3339(),
    }
}

fn check(
    path: &Path,
    task: Option<Task>,
    strategy: Option<Strategy>,
    limit: usize,
) -> Result<(DatasetReport, Task), DataError> {
    let tasks = task.as_ref().map_or(Task::ALL, std::slice::from_ref);
    let strategies = strategy.as_ref().map_or(&[Strategy::Sft, Strategy::Dpo][..], std::slice::from_ref);
    let mut refused = None;
    for &strategy in strategies {
        for &task in tasks {
            match data::check(path, task, strategy, limit) {
                Ok(report) => return Ok((report, task)),
                Err(error @ DataError::WrongForm { .. }) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
    }
    Err(refused.unwrap_or_else(|| DataError::NotFound { path: path.to_owned() }))
}
