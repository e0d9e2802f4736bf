//! A dataset made ready for training: every row tokenized once, spilled to disk, split into training and evaluation.

use std::path::Path;

use types::{Strategy, Task, dataset::RowForm};

use crate::{
    encode::Encoded,
    error::{BadRows, DataError},
    example::Example,
    plan::{rng, shuffle},
    scan::{self, Examples},
    token_rows::{TokenRows, TokenWriter},
    tokenizer::Tokenizer,
};

/// Bad rows that are kept to be told.
const ERRORS_KEPT: usize = 50;
/// Warnings about single rows that are told; the rest is counted.
const WARNINGS_TOLD: usize = 10;
/// Tokens of a bin where the length is to be found and rows are short: as long as the default of trl's packing.
const PACKED_LENGTH: usize = 1024;
/// Rows between two reports of progress.
const PROGRESS_EVERY: u64 = 256;

/// What to prepare, and how.
#[derive(Debug, Clone)]
pub struct PrepareOptions<'a> {
    /// The dataset file.
    pub dataset: &'a Path,
    /// A file to evaluate on; without it `eval_split` takes rows from the dataset.
    pub eval_dataset: Option<&'a Path>,
    /// What the model is to do.
    pub task: Task,
    /// How it is tuned; dpo, and rlhf where rows have them, compare two answers.
    pub strategy: Strategy,
    /// The longest row in tokens; found when absent.
    pub max_seq_length: Option<u32>,
    /// The longest sequence the model reads.
    pub context_length: usize,
    /// The longest row where `max_seq_length` is to be found.
    pub length_cap: Option<u32>,
    /// The part of the rows kept aside to evaluate on.
    pub eval_split: f64,
    /// Whether rows will share bins: a found `max_seq_length` then has room for several.
    pub packing: bool,
    /// Leaves bad rows out instead of refusing the dataset.
    pub skip_bad_rows: bool,
    /// Seed of the split.
    pub seed: u64,
    /// The folder the tokens are written to.
    pub tokens_dir: &'a Path,
}

/// How far the preparation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Rows read.
    pub rows: u64,
    /// The part of the file read; absent where it is not known (Parquet).
    pub fraction: Option<f64>,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Rows to train on.
    pub train: TokenRows,
    /// Rows to evaluate on; may be empty.
    pub eval: TokenRows,
    /// What was found on the way.
    pub stats: PrepareStats,
    /// The longest row in tokens; with packing, the size of a bin.
    pub max_seq_length: usize,
}

/// Counts of a preparation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrepareStats {
    /// Which fields the rows have.
    pub form: Option<RowForm>,
    /// Rows in the file or files, bad ones included.
    pub rows: u64,
    /// Rows to train on.
    pub train_rows: u64,
    /// Rows to evaluate on.
    pub eval_rows: u64,
    /// Rows cut to the longest length.
    pub truncated_rows: u64,
    /// Tokens cut off in all.
    pub cut_tokens: u64,
    /// Rows left out, each with its reason in the warnings as far as they reach.
    pub skipped_rows: u64,
    /// Tokens of one epoch.
    pub tokens_per_epoch: u64,
    /// Of those, tokens the loss counts.
    pub trained_tokens_per_epoch: u64,
    /// Tokens of the longest sequence; each of two answers to compare is one.
    pub longest_row: u64,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// Reads, checks and tokenizes the dataset.
///
/// # Errors
/// Everything that is wrong with the dataset, bad rows collected; a longest length the model cannot read; the disk.
pub fn prepare(
    options: &PrepareOptions<'_>,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, DataError> {
    let writes = tokenizer.encoder_decoder().is_none() && !tokenizer.points_at_answers();
    if !options.strategy.is_supervised() && !writes {
        return Err(DataError::NotDecoderOnly(options.strategy));
    }
    let context_length = options.context_length;
    let limit = match options.max_seq_length {
        Some(asked) if asked as usize > context_length => {
            return Err(DataError::MaxSeqLength { max_seq_length: asked, context_length });
        }
        Some(asked) => asked as usize,
        None => options.length_cap.map_or(context_length, |cap| context_length.min(cap as usize)),
    };

    let mut stats = PrepareStats::default();
    let main = spill(options, options.dataset, "train.tokens", limit, tokenizer, &mut stats, progress)?;
    let eval = match options.eval_dataset {
        Some(path) => Some(spill(options, path, "eval.tokens", limit, tokenizer, &mut stats, progress)?),
        None => None,
    };
    let (train, eval) = match eval {
        Some(eval) => (main.rows, eval.rows),
        None => split(&main, options.eval_split, options.seed),
    };

    let read = |rows: &TokenRows, i| {
        rows.read(i).map_err(|source| DataError::Tokens { path: options.tokens_dir.into(), source })
    };
    for i in 0..train.len() {
        stats.trained_tokens_per_epoch += read(&train, i)?.trained_tokens() as u64;
        stats.tokens_per_epoch += train.length(i) as u64;
    }
    let longest = |rows: &TokenRows| (0..rows.len()).map(|i| rows.longest(i)).max().unwrap_or(0);
    let longest = longest(&train).max(longest(&eval));
    (stats.train_rows, stats.eval_rows) = (train.len() as u64, eval.len() as u64);
    stats.longest_row = longest as u64;
    if eval.is_empty() && options.eval_split > 0.0 {
        stats.warnings.push(
            "the dataset has a single row: it is trained on, and nothing is left to evaluate on".into(),
        );
    }
    let max_seq_length = match options.max_seq_length {
        Some(_) => limit,
        None if options.packing => longest.max(limit.min(PACKED_LENGTH)),
        None => longest,
    };
    Ok(Prepared { train, eval, stats, max_seq_length })
}

/// Tokenizes one file.
fn spill(
    options: &PrepareOptions<'_>,
    path: &Path,
    name: &str,
    limit: usize,
    tokenizer: &Tokenizer,
    stats: &mut PrepareStats,
    progress: &mut dyn FnMut(Progress),
) -> Result<Spilled, DataError> {
    let tokens = options.tokens_dir.join(name);
    let disk = |source| DataError::Tokens { path: tokens.clone(), source };
    let mut examples = scan::examples(path, options.task, options.strategy)?;
    stats.form = stats.form.or(examples.form());
    let mut writer = TokenWriter::create(&tokens).map_err(disk)?;
    let (mut bad, mut too_tight) = (BadRows::default(), BadRows::default());
    let (mut rows, mut written, mut firsts) = (0u64, 0, Vec::new());
    while let Some(row) = examples.next_row()? {
        rows += 1;
        if rows % PROGRESS_EVERY == 1 {
            progress(Progress { rows, fraction: fraction(&examples) });
        }
        let row = match row {
            Ok(row) => row,
            Err(errors) => {
                bad.push(errors, ERRORS_KEPT);
                continue;
            }
        };
        if bad.total > 0 && !options.skip_bad_rows {
            continue; // the dataset is refused: what is left is only checked
        }
        match sequences(tokenizer, &row.example, options.task, limit) {
            Ok(encoded) => {
                firsts.push(written);
                written += encoded.len();
                for encoded in &encoded {
                    count_cut(stats, encoded);
                    writer.push(encoded, row.row).map_err(disk)?;
                }
            }
            Err(error @ (DataError::NoRoom { .. } | DataError::QuestionTooLong { .. })) => {
                too_tight.push(vec![row.error(error.to_string())], ERRORS_KEPT);
            }
            Err(error) if error.is_about_one_row() => {
                bad.push(vec![row.error(error.to_string())], ERRORS_KEPT);
            }
            Err(error) => return Err(error),
        }
    }
    progress(Progress { rows, fraction: Some(1.0) });
    stats.rows += rows;
    if bad.total > 0 && !options.skip_bad_rows {
        return Err(DataError::Rows(bad));
    }
    if written == 0 {
        let errors = if bad.total > 0 { bad } else { too_tight };
        return Err(DataError::NoUsableRows { path: path.into(), errors });
    }
    for left_out in [&bad, &too_tight] {
        stats.skipped_rows += left_out.total;
        warn(stats, path, left_out);
    }
    if written > firsts.len() {
        let (file, long) = (path.display(), firsts.len());
        stats.warnings.push(format!(
            "{file}: long texts are read in windows that overlap: {long} rows are {written} sequences of at most {limit} tokens"
        ));
    }
    Ok(Spilled { rows: writer.finish().map_err(disk)?, firsts })
}

/// What is computed for one row: a sequence, or as many windows as its text needs.
fn sequences(
    tokenizer: &Tokenizer,
    example: &Example,
    task: Task,
    limit: usize,
) -> Result<Vec<Encoded>, DataError> {
    if tokenizer.points_at_answers() {
        return tokenizer.encode_windows(example, limit);
    }
    let encoded = match tokenizer.encoder_decoder() {
        Some(model) => tokenizer.encode_pair(model, example, task, limit),
        None => tokenizer.encode_example(example, task, limit),
    };
    Ok(vec![encoded?])
}

/// The sequences of a file.
struct Spilled {
    rows: TokenRows,
    /// Of each row of the file, its first sequence.
    firsts: Vec<usize>,
}

fn count_cut(stats: &mut PrepareStats, encoded: &Encoded) {
    let cut_tokens = encoded.cut_tokens + encoded.rejected.as_ref().map_or(0, |row| row.cut_tokens);
    stats.truncated_rows += u64::from(cut_tokens > 0);
    stats.cut_tokens += cut_tokens as u64;
}

fn warn(stats: &mut PrepareStats, path: &Path, left_out: &BadRows) {
    let told = left_out.errors.iter().take(WARNINGS_TOLD);
    stats.warnings.extend(told.map(|error| format!("{}: left out {error}", path.display())));
    if left_out.total > WARNINGS_TOLD as u64 {
        let more = left_out.total - WARNINGS_TOLD as u64;
        stats.warnings.push(format!("{}: {more} more rows left out", path.display()));
    }
}

fn fraction(examples: &Examples) -> Option<f64> {
    let (read, all) = (examples.source().bytes_read(), examples.source().bytes());
    (read > 0 && all > 0).then(|| (read as f64 / all as f64).min(1.0))
}

/// A seeded split: `part` of the rows, rounded, for evaluation, at least one on each side where there are two. All sequences of
/// a row go to one side.
fn split(spilled: &Spilled, part: f64, seed: u64) -> (TokenRows, TokenRows) {
    let Spilled { rows, firsts } = spilled;
    let mut order: Vec<usize> = (0..firsts.len()).collect();
    shuffle(&mut order, &mut rng(seed, 0));
    let eval = match order.len() {
        n if part > 0.0 && n > 1 => ((n as f64 * part).round() as usize).clamp(1, n - 1),
        _ => 0,
    };
    let sequences = |of: &[usize]| -> Vec<usize> {
        let next = |row: usize| firsts.get(row + 1).copied().unwrap_or(rows.len());
        of.iter().flat_map(|&row| firsts[row]..next(row)).collect()
    };
    let (eval, train) = order.split_at(eval);
    (rows.select(&sequences(train)), rows.select(&sequences(eval)))
}
