//! Opening the database: settings, layout version, and what happens to a damaged file.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::{StoreError, table::MIGRATIONS};

/// An open database and how it came to be.
pub(crate) struct Opened {
    pub connection: Connection,
    /// Whether it was made or brought to a newer layout, so that the folders should be indexed.
    pub fresh: bool,
    /// Where a damaged predecessor is kept.
    pub moved_aside: Option<PathBuf>,
}

/// Opens the database, makes it where there is none, and brings an older layout up to date.
pub(crate) fn open(path: &Path) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::Database { path: path.to_owned(), source };
    match connect(path) {
        Ok((connection, fresh)) => Ok(Opened { connection, fresh, moved_aside: None }),
        Err(Trouble::Newer(found)) => {
            Err(StoreError::NewerDatabase { path: path.to_owned(), found, known: newest() })
        }
        Err(Trouble::Sqlite(error)) if !is_damage(&error) => Err(failed(error)),
        Err(Trouble::Sqlite(_) | Trouble::Damaged) => {
            let kept = move_aside(path)?;
            match connect(path) {
                Ok((connection, fresh)) => Ok(Opened { connection, fresh, moved_aside: Some(kept) }),
                Err(Trouble::Sqlite(error)) => Err(failed(error)),
                Err(Trouble::Newer(_) | Trouble::Damaged) => Err(failed(rusqlite::Error::InvalidQuery)),
            }
        }
    }
}

enum Trouble {
    Sqlite(rusqlite::Error),
    Damaged,
    Newer(i64),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn connect(path: &Path) -> Result<(Connection, bool), Trouble> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // Read before anything is set, so that a newer database stays as it is.
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > newest() {
        return Err(Trouble::Newer(found));
    }
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Trouble::Damaged);
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let fresh = migrate(&mut connection)?;
    Ok((connection, fresh))
}

/// Runs the migrations that the database lacks, all or none. Another process may be doing the same: the layout is
/// read again inside the transaction.
fn migrate(connection: &mut Connection) -> Result<bool, Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let missing = MIGRATIONS.get(usize::try_from(found).unwrap_or(0)..).unwrap_or_default();
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "user_version", newest())?;
    }
    transaction.commit()?;
    Ok(!missing.is_empty())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Renames the database and what belongs to it to the first free `modelforge.db.damaged-N`.
fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut n = 1;
    let mut kept = with(".damaged-1");
    while kept.exists() {
        n += 1;
        kept = with(&format!(".damaged-{n}"));
    }
    fs::rename(path, &kept).map_err(StoreError::io("move aside", path))?;
    for suffix in ["-wal", "-shm"] {
        let part = with(suffix);
        if part.exists() {
            let target = with(&format!(".damaged-{n}{suffix}"));
            fs::rename(&part, target).map_err(StoreError::io("move aside", &part))?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_new_database_has_the_newest_layout_and_opens_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("modelforge.db");
        let first = open(&path).unwrap();
        assert!(first.fresh && first.moved_aside.is_none());
        assert_eq!(user_version(&first.connection), newest());
        let again = open(&path).unwrap();
        assert!(!again.fresh, "migrations run once");
        let mode: String = again.connection.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
        let keys: bool = again.connection.pragma_query_value(None, "foreign_keys", |r| r.get(0)).unwrap();
        assert_eq!((mode.as_str(), keys), ("wal", true));
    }

    #[test]
    fn a_newer_layout_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("modelforge.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", newest() + 1).unwrap();
        connection.close().unwrap();
        let before = fs::read(&path).unwrap();
        let error = open(&path).err().unwrap();
        assert!(matches!(error, StoreError::NewerDatabase { found, .. } if found == newest() + 1), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before, "a newer database is not touched");
    }

    #[test]
    fn a_damaged_file_is_kept_beside_the_new_one() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("modelforge.db");
        types::files::write(&path, &[b'x'; 5000]).unwrap();
        let opened = open(&path).unwrap();
        let kept = opened.moved_aside.unwrap();
        assert!(opened.fresh, "the new database wants indexing");
        opened.connection.close().unwrap();
        assert_eq!(fs::read(kept).unwrap(), [b'x'; 5000], "nothing of the damaged file is lost");
        types::files::write(&path, &[b'y'; 5000]).unwrap();
        let second = open(&path).unwrap().moved_aside.unwrap();
        assert!(second.to_string_lossy().ends_with(".damaged-2"), "an older backup is not overwritten");
    }

    #[test]
    fn two_processes_may_open_a_new_database_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("modelforge.db");
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&path).map(|o| o.fresh))).collect();
            let fresh = threads.into_iter().map(|t| t.join().unwrap().unwrap());
            assert_eq!(fresh.filter(|&f| f).count(), 1, "one of them runs the migrations");
        });
    }
}
