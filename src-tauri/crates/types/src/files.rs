//! Writing files so that a killed process never leaves half of one, and hashing them.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, PersistError};

/// How the names of files begin that are not finished.
pub const TEMPORARY: &str = ".writing-";

/// How the names of blobs in the Hub's cache end that are not whole.
pub const UNFINISHED_BLOB: &str = ".modelforge.incomplete";

/// A file that is only there to be locked; it is made where it is not there, and keeps what it has.
pub fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

/// Writes `bytes` to `path` whole or not at all: to a temporary name beside it, fsync, rename.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Like [`write()`], with the content produced by `fill`.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = temporary(folder)?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// `value` as indented JSON with a final newline, written like [`write()`].
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// An empty file under a temporary name in `folder`, which is gone when it is dropped. [`publish_new`] gives it its name.
pub fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY).suffix(".tmp");
    // Temporary files are for their owner alone unless told otherwise; these become ordinary ones, as the umask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Gives a finished temporary file a name that nothing has yet. Where something has it, the error is `AlreadyExists` and
/// holds the file.
pub fn publish_new(temporary: NamedTempFile, path: &Path) -> Result<(), PersistError> {
    if let Err(error) = temporary.as_file().sync_all() {
        return Err(PersistError { error, file: temporary });
    }
    temporary.persist_noclobber(path)?;
    // The name is given; where it cannot be made durable, it is as durable as the system makes it.
    if let Some(folder) = path.parent() {
        sync_folder(folder).ok();
    }
    Ok(())
}

/// Renames a finished folder into place, so that it is there whole or not at all.
pub fn publish_folder(from: &Path, to: &Path) -> io::Result<()> {
    sync_folder(from)?;
    fs::rename(from, to)?;
    sync_folder(to.parent().unwrap_or(Path::new(".")))
}

/// A name that people gave, as the name of a file on every system: letters, digits, `.`, `_` and `-`.
pub fn file_name(name: &str) -> String {
    const MOST: usize = 80;
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String = name.trim().chars().map(plain).take(MOST).collect();
    match text.trim_matches(['.', '-']) {
        "" => "model".to_owned(),
        text => text.to_owned(),
    }
}

/// SHA-256 of a file in lower-case hex, read in pieces.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Makes a rename durable. Windows has no way to fsync a folder and does not need one.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"old").unwrap();
        write_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old", "a failed write must not touch the file");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file may stay");
    }

    #[test]
    #[cfg(unix)]
    fn a_written_file_has_the_mode_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write(&ours, b"").unwrap();
        File::create(&plain).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(
            mode(&ours),
            mode(&plain),
            "what is written for others to read is readable as the umask allows"
        );
    }

    #[test]
    fn any_name_becomes_one_that_files_can_have() {
        for (name, want) in [
            ("Order slips", "Order-slips"),
            ("a/b\\c:d*e?\"<>|\0\n", "a-b-c-d-e"),
            ("Zürich 7B v1.2", "Zürich-7B-v1.2"),
            ("../..", "model"),
            (" .hidden ", "hidden"),
            ("", "model"),
        ] {
            assert_eq!(file_name(name), want, "{name:?}");
        }
        assert_eq!(file_name(&"x".repeat(300)).len(), 80, "no name is too long for a file");
    }

    #[test]
    fn sha256_of_abc() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        write(&path, b"abc").unwrap();
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), want, "the test vector of FIPS 180-2");
    }
}
