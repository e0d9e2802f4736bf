//! Opening the database: settings, layout version, and what happens to a damaged file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params_from_iter, types::Value};

use crate::{
    StoreError,
    table::{MIGRATIONS, ONLY_HERE},
};

/// An open database and how it came to be.
pub(crate) struct Opened {
    pub connection: Connection,
    /// Whether it was made or brought to a newer layout, so that the folders should be indexed.
    pub fresh: bool,
    /// Where a damaged predecessor is kept.
    pub moved_aside: Option<PathBuf>,
    /// The tables that could not be carried over whole from it.
    pub lost: Vec<&'static str>,
}

/// Opens the database, makes it where there is none, and brings an older layout up to date.
pub(crate) fn open(path: &Path) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::Database { path: path.to_owned(), source };
    let refused = |trouble| match trouble {
        Trouble::Newer(found) => StoreError::NewerDatabase { path: path.to_owned(), found, known: newest() },
        Trouble::Sqlite(error) => failed(error),
        Trouble::Damaged => failed(rusqlite::Error::InvalidQuery),
    };
    // One process at a time: SQLite lets no two switch to WAL at once, and only one may move a damaged file aside.
    let lock_path = with_suffix(path, ".lock");
    let lock = File::create(&lock_path).map_err(StoreError::io("make", &lock_path))?;
    lock.lock().map_err(StoreError::io("lock", &lock_path))?;
    match connect(path) {
        Ok((connection, fresh)) => Ok(Opened { connection, fresh, moved_aside: None, lost: Vec::new() }),
        Err(trouble) if !trouble.is_damage() => Err(refused(trouble)),
        Err(_) => {
            let kept = move_aside(path)?;
            let (connection, fresh) = connect(path).map_err(refused)?;
            let lost = carry_over(&kept, &connection);
            Ok(Opened { connection, fresh, moved_aside: Some(kept), lost })
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

impl Trouble {
    fn is_damage(&self) -> bool {
        const DAMAGE: [ErrorCode; 2] = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        match self {
            Self::Damaged => true,
            Self::Newer(_) => false,
            Self::Sqlite(error) => error.sqlite_error_code().is_some_and(|code| DAMAGE.contains(&code)),
        }
    }
}

/// Copies from a damaged database what no folder can bring back, as far as SQLite can still read it. Returns the tables
/// that were not read whole.
fn carry_over(kept: &Path, connection: &Connection) -> Vec<&'static str> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(damaged) = Connection::open_with_flags(kept, flags) else { return ONLY_HERE.to_vec() };
    let whole = |table: &str| copy_table(table, &damaged, connection).unwrap_or(false);
    ONLY_HERE.iter().copied().filter(|table| !whole(table)).collect()
}

/// Copies a table's rows up to the damage, then from the other end; whether all of them came over.
fn copy_table(table: &str, from: &Connection, to: &Connection) -> rusqlite::Result<bool> {
    // A layout that has no such table yet has lost nothing.
    if !from.table_exists(None, table)? {
        return Ok(true);
    }
    let known = columns(table, to)?;
    let columns: Vec<String> =
        columns(table, from)?.into_iter().filter(|name| known.contains(name)).collect();
    let whole = copy_rows(table, &columns, "ASC", from, to)?;
    if !whole {
        copy_rows(table, &columns, "DESC", from, to)?;
    }
    Ok(whole)
}

/// A row that is not what the table may hold, or that is there already, stays behind.
fn copy_rows(
    table: &str,
    columns: &[String],
    order: &str,
    from: &Connection,
    to: &Connection,
) -> rusqlite::Result<bool> {
    let (names, places) = (columns.join(", "), vec!["?"; columns.len()].join(", "));
    let mut read = from.prepare(&format!("SELECT {names} FROM {table} ORDER BY rowid {order}"))?;
    let mut write = to.prepare(&format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})"))?;
    let mut rows = read.query([])?;
    let mut whole = true;
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let values = (0..columns.len()).map(|i| row.get(i)).collect::<Result<Vec<Value>, _>>();
                let written = values.and_then(|values| write.execute(params_from_iter(values)));
                whole &= written.is_ok_and(|count| count == 1);
            }
            Ok(None) => return Ok(whole),
            Err(_) => return Ok(false),
        }
    }
}

fn columns(table: &str, db: &Connection) -> rusqlite::Result<Vec<String>> {
    let statement = db.prepare(&format!("SELECT * FROM {table}"))?;
    Ok(statement.column_names().map(str::to_owned).collect())
}

/// Renames the database and what belongs to it to the first free `modelforge.db.damaged-N`.
fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let with = |suffix: &str| with_suffix(path, suffix);
    let mut n = 1;
    let mut kept = with(".damaged-1");
    while kept.exists() {
        n += 1;
        kept = with(&format!(".damaged-{n}"));
    }
    for suffix in ["-wal", "-shm", ""] {
        let part = with(suffix);
        if part.exists() {
            let target = with(&format!(".damaged-{n}{suffix}"));
            fs::rename(&part, target).map_err(StoreError::io("move aside", &part))?;
        }
    }
    Ok(kept)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
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
