//! One pass over a dataset: every row as an example or as what is wrong with it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use types::{
    Strategy, Task,
    dataset::{DatasetReport, RowError, RowForm},
};

use crate::{
    error::{BadRows, DataError},
    example::Example,
    form,
    source::{self, Rows},
};

/// How many rows may come before the first one that tells the form.
const ROWS_TO_TELL_FORM: usize = 1000;

/// The examples of a dataset, in the file's order.
pub struct Examples {
    rows: Rows,
    form: Option<RowForm>,
    columns: Vec<String>,
    path: std::path::PathBuf,
    count: u64,
}

/// A row that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Line in the file, from 1; absent for Parquet.
    pub line: Option<u64>,
    /// Row among the rows, from 1.
    pub row: u64,
    /// What it says.
    pub example: Example,
}

impl Numbered {
    /// An error about this row.
    pub(crate) fn error(&self, message: impl Into<String>) -> RowError {
        RowError { line: self.line, row: self.row, field: None, message: message.into() }
    }
}

/// Opens a dataset and finds the form of its rows: the first row that has every field of a form decides.
///
/// # Errors
/// What [`source::open`] refuses, and rows whose form does not go with task and strategy or is not known.
pub fn examples(path: &Path, task: Task, strategy: Strategy) -> Result<Examples, DataError> {
    let fitting = form::fitting_forms(task, strategy);
    let (form, columns) = find_form(path, &fitting)?;
    if let Some(form) = form.filter(|form| !fitting.contains(form)) {
        return Err(DataError::WrongForm { form, task, strategy, fitting });
    }
    if form.is_none() && !columns.is_empty() {
        return Err(DataError::UnknownForm { fields: columns, task, fitting });
    }
    Ok(Examples { rows: source::open(path)?, form, columns, path: path.into(), count: 0 })
}

fn find_form(path: &Path, fitting: &[RowForm]) -> Result<(Option<RowForm>, Vec<String>), DataError> {
    let mut rows = source::open(path)?;
    let (mut nearest, mut columns) = (None, Vec::new());
    for row in rows.by_ref().take(ROWS_TO_TELL_FORM).flatten() {
        if columns.is_empty() {
            columns = row.values.keys().cloned().collect();
        }
        if let Some(found) = form::detect(&row.values, fitting) {
            return Ok((Some(found), columns));
        }
        nearest = nearest.or_else(|| form::nearest(&row.values, fitting));
    }
    rows.finish().map_err(|source| DataError::read(path, source))?;
    Ok((nearest, columns))
}

impl Examples {
    /// The form of the rows; absent where no row could be read.
    pub fn form(&self) -> Option<RowForm> {
        self.form
    }

    /// The rows as they are read, for progress.
    pub fn source(&self) -> &Rows {
        &self.rows
    }

    /// The next row.
    ///
    /// # Errors
    /// A failure that ends the reading: the disk, or a file that is damaged as a whole.
    pub fn next_row(&mut self) -> Result<Option<Result<Numbered, Vec<RowError>>>, DataError> {
        let Some(row) = self.rows.next() else {
            self.rows.finish().map_err(|source| DataError::read(&self.path, source))?;
            return Ok(None);
        };
        self.count += 1;
        let parsed = row.map_err(|error| vec![error]).and_then(|row| {
            let Some(form) = self.form else {
                return Err(vec![row.error(None, "has none of the fields a row needs")]);
            };
            let example = form::parse(&row, form)?;
            Ok(Numbered { line: row.line, row: row.row, example })
        });
        Ok(Some(parsed))
    }
}

/// The examples of rows by their numbers, which count from 1; a row that cannot be used is left out. Nothing is read for none.
///
/// # Errors
/// As [`examples`].
pub fn examples_at(
    path: &Path,
    task: Task,
    strategy: Strategy,
    rows: &[u64],
) -> Result<HashMap<u64, Example>, DataError> {
    let mut left: HashSet<u64> = rows.iter().copied().collect();
    let mut found = HashMap::new();
    if left.is_empty() {
        return Ok(found);
    }
    let mut examples = examples(path, task, strategy)?;
    while let Some(row) = examples.next_row()? {
        if let Ok(Numbered { row, example, .. }) = row
            && left.remove(&row)
        {
            found.insert(row, example);
            if left.is_empty() {
                break;
            }
        }
    }
    Ok(found)
}

/// Reads a whole dataset and tells what is in it and what is wrong with it, at most `error_limit` errors.
///
/// # Errors
/// As [`examples`]; bad rows are in the report.
pub fn check(
    path: &Path,
    task: Task,
    strategy: Strategy,
    error_limit: usize,
) -> Result<DatasetReport, DataError> {
    let mut examples = examples(path, task, strategy)?;
    let mut bad = BadRows::default();
    while let Some(row) = examples.next_row()? {
        if let Err(errors) = row {
            bad.push(errors, error_limit);
        }
    }
    Ok(DatasetReport {
        path: path.into(),
        format: examples.rows.format(),
        form: examples.form,
        bytes: examples.rows.bytes(),
        rows: examples.count,
        usable_rows: examples.count - bad.total,
        columns: examples.columns,
        errors: bad.errors,
        error_count: bad.total,
    })
}
