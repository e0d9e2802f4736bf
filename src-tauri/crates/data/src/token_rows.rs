//! Token rows on disk, read by position: a dataset's tokens are never in memory whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::encode::Encoded;

/// Rows of tokens in a file; several can share one. The file is removed with the last of them.
#[derive(Debug, Clone)]
pub struct TokenRows {
    spill: Arc<Spill>,
    /// Positions in the spill, in this set's order.
    rows: Vec<usize>,
}

#[derive(Debug)]
struct Spill {
    path: PathBuf,
    file: Option<Mutex<File>>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    length: u32,
    source: u32,
    rejected: u32,
    cut_tokens: u32,
    has_segments: bool,
    span: Option<(u32, u32)>,
    /// Row of the dataset, from 1.
    number: u64,
}

impl Entry {
    fn tokens(&self) -> usize {
        self.length as usize + self.source as usize + self.rejected as usize
    }

    /// Tokens of the longest sequence.
    fn longest(&self) -> usize {
        (self.length as usize + self.source as usize).max(self.rejected as usize)
    }
}

impl TokenRows {
    /// Writes rows to `path` and keeps them in the order given.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn create(path: &Path, rows: impl IntoIterator<Item = Encoded>) -> io::Result<Self> {
        let mut writer = TokenWriter::create(path)?;
        for (number, row) in (1..).zip(rows) {
            writer.push(&row, number)?;
        }
        writer.finish()
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of row `i`, its source and a worse answer's sequence included; 0 where there is no such row.
    pub fn length(&self, i: usize) -> usize {
        self.entry(i).map_or(0, |entry| entry.tokens())
    }

    /// Tokens of the longest sequence of row `i`: of a pair of answers, each is a sequence by itself.
    pub fn longest(&self, i: usize) -> usize {
        self.entry(i).map_or(0, |entry| entry.longest())
    }

    /// Which row of the dataset row `i` was made of, from 1.
    pub fn number(&self, i: usize) -> Option<u64> {
        self.entry(i).map(|entry| entry.number)
    }

    /// Row `i`.
    ///
    /// # Errors
    /// What the disk refuses, and `InvalidInput` where there is no such row.
    pub fn read(&self, i: usize) -> io::Result<Encoded> {
        let entry = self.entry(i).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let length = entry.length as usize;
        let (source_bytes, rejected) = (entry.source as usize * size_of::<u32>(), entry.rejected as usize);
        let mut bytes = vec![0; (length + rejected) * BYTES_A_TOKEN + source_bytes];
        let file = self.spill.file.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(entry.offset))?;
            file.read_exact(&mut bytes)?;
        }
        let (ids, rest) = bytes.split_at(length * size_of::<u32>());
        let (flags, rest) = rest.split_at(length);
        let (source, rest) = rest.split_at(source_bytes);
        let (rejected_ids, rejected_flags) = rest.split_at(rejected * size_of::<u32>());
        let words = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect();
        let trained = |flags: &[u8]| flags.iter().map(|&flag| flag & TRAINED != 0).collect();
        let rejected = (rejected > 0).then(|| {
            let (ids, trained) = (words(rejected_ids), trained(rejected_flags));
            Box::new(Encoded { ids, trained, ..Encoded::default() })
        });
        Ok(Encoded {
            ids: words(ids),
            trained: trained(flags),
            cut_tokens: entry.cut_tokens as usize,
            source: words(source),
            token_types: match entry.has_segments {
                true => flags.iter().map(|&flag| u8::from(flag & SECOND_SEGMENT != 0)).collect(),
                false => Vec::new(),
            },
            span: entry.span,
            rejected,
        })
    }

    fn entry(&self, i: usize) -> Option<Entry> {
        self.spill.entries.get(*self.rows.get(i)?).copied()
    }

    /// The same file, with the rows at these positions in this order.
    pub(crate) fn select(&self, positions: &[usize]) -> Self {
        let rows = positions.iter().filter_map(|&i| self.rows.get(i).copied()).collect();
        Self { spill: self.spill.clone(), rows }
    }
}

/// An id and its flags.
const BYTES_A_TOKEN: usize = size_of::<u32>() + 1;
/// Flag of a token whose prediction the loss counts.
const TRAINED: u8 = 1;
/// Flag of a token of the second segment.
const SECOND_SEGMENT: u8 = 2;

/// Writes rows one after the other.
pub(crate) struct TokenWriter {
    out: BufWriter<File>,
    position: u64,
    spill: Spill,
}

impl TokenWriter {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let spill = Spill { path: path.into(), file: None, entries: Vec::new() };
        Ok(Self { out: BufWriter::with_capacity(1 << 20, file), position: 0, spill })
    }

    /// `number`: which row of the dataset it was made of, from 1.
    pub(crate) fn push(&mut self, row: &Encoded, number: u64) -> io::Result<()> {
        let size =
            |ids: &[u32]| u32::try_from(ids.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let worse = row.rejected.as_deref();
        let (length, source) = (size(&row.ids)?, size(&row.source)?);
        let rejected = worse.map_or(Ok(0), |row| size(&row.ids))?;
        let cut_tokens = row.cut_tokens + worse.map_or(0, |row| row.cut_tokens);
        self.write_ids(&row.ids)?;
        self.write_flags(row)?;
        self.write_ids(&row.source)?;
        if let Some(row) = worse {
            self.write_ids(&row.ids)?;
            self.write_flags(row)?;
        }
        self.spill.entries.push(Entry {
            offset: self.position,
            length,
            source,
            rejected,
            cut_tokens: u32::try_from(cut_tokens).unwrap_or(u32::MAX),
            has_segments: !row.token_types.is_empty(),
            span: row.span,
            number,
        });
        let source_bytes = u64::from(source) * size_of::<u32>() as u64;
        self.position += (u64::from(length) + u64::from(rejected)) * BYTES_A_TOKEN as u64 + source_bytes;
        Ok(())
    }

    fn write_ids(&mut self, ids: &[u32]) -> io::Result<()> {
        ids.iter().try_for_each(|id| self.out.write_all(&id.to_le_bytes()))
    }

    fn write_flags(&mut self, row: &Encoded) -> io::Result<()> {
        let flag = |i| {
            let trained = if row.trained.get(i) == Some(&true) { TRAINED } else { 0 };
            trained | if row.token_types.get(i) == Some(&1) { SECOND_SEGMENT } else { 0 }
        };
        self.out.write_all(&(0..row.ids.len()).map(flag).collect::<Vec<u8>>())
    }

    pub(crate) fn finish(self) -> io::Result<TokenRows> {
        let Self { out, mut spill, .. } = self;
        spill.file = Some(Mutex::new(out.into_inner().map_err(io::IntoInnerError::into_error)?));
        let rows = (0..spill.entries.len()).collect();
        Ok(TokenRows { spill: Arc::new(spill), rows })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // Closed first: Windows removes no open file. What cannot be removed is overwritten by the next preparation.
        self.file = None;
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_answers_is_one_row() {
        let folder = tempfile::tempdir().unwrap();
        let sequence = |ids: &[u32]| Encoded {
            ids: ids.into(),
            trained: ids.iter().map(|&id| id > 2).collect(),
            ..Encoded::default()
        };
        let pair = Encoded { rejected: Some(Box::new(sequence(&[1, 2, 4]))), ..sequence(&[1, 2, 3, 5, 7]) };
        let single = sequence(&[9, 9]);
        let rows =
            TokenRows::create(&folder.path().join("pairs"), [single.clone(), pair.clone(), single.clone()])
                .unwrap();
        assert_eq!((rows.read(1).unwrap(), rows.read(2).unwrap()), (pair, single), "both sides come back");
        assert_eq!((rows.length(1), rows.longest(1), rows.longest(0)), (8, 5, 2));
    }

    #[test]
    fn rows_come_back_by_position_and_the_file_goes_with_the_last_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.bin");
        let row = |n: u32| Encoded {
            ids: (0..n).map(|i| u32::MAX - i).collect(),
            trained: (0..n).map(|i| i % 3 == 1).collect(),
            cut_tokens: n as usize,
            // Every second row has a source, every third is a window with an answer.
            source: if n.is_multiple_of(2) { (0..n / 2).collect() } else { Vec::new() },
            token_types: if n.is_multiple_of(3) {
                (0..n).map(|i| (i % 2) as u8).collect()
            } else {
                Vec::new()
            },
            span: n.is_multiple_of(3).then_some((n, n + 1)),
            rejected: None,
        };
        let rows = TokenRows::create(&path, [row(3), row(0), row(70_000)]).unwrap();
        let reversed = rows.select(&[2, 1, 0]);
        assert_eq!(
            (rows.len(), rows.length(2), reversed.length(0)),
            (3, 105_000, 105_000),
            "lengths need no reading"
        );
        for (i, n) in [(0, 3), (1, 0), (2, 70_000)] {
            assert_eq!(rows.read(i).unwrap(), row(n), "a row comes back as it was written");
        }
        assert_eq!(reversed.read(2).unwrap(), row(3), "a selection reads its own order");
        let numbers: Vec<_> = (0..4).map(|i| reversed.number(i)).collect();
        assert_eq!(numbers, [Some(3), Some(2), Some(1), None], "each row knows its place in the dataset");
        assert_eq!(rows.read(3).unwrap_err().kind(), io::ErrorKind::InvalidInput, "no row, no panic");
        drop(rows);
        assert!(path.exists(), "a selection keeps the file");
        drop(reversed);
        assert!(!path.exists(), "the last owner removes the file");
    }
}
