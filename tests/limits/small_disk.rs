//! A small disk of its own: a file system in memory, seen by the programs that are started on it and by the test.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// The mount lives as long as this.
pub struct SmallDisk {
    holder: Child,
    folder: TempDir,
}

impl SmallDisk {
    /// A disk of so many bytes; `None` where this machine lets nobody mount one.
    pub fn new(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // It ends with its standard input.
        let script = format!(
            "mount -t tmpfs -o size={bytes} none '{}' && echo mounted && exec cat >/dev/null",
            folder.path().display()
        );
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() != "mounted" {
            holder.wait().unwrap();
            return None;
        }
        Some(Self { holder, folder })
    }

    /// Where programs that are started on it find it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the test finds what is at `path` there.
    pub fn seen(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap())
    }

    /// A program that is started where the disk is mounted.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.holder.id().to_string(),
                "--user",
                "--mount",
                "--preserve-credentials",
                "--",
            ])
            .arg(program);
        command
    }

    /// Fills it up but for so many bytes.
    pub fn fill_but(&self, left: u64) {
        let path = self.seen(&self.path().join("ballast"));
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        let block = vec![7; 64 << 10];
        let mut size = block.len();
        while size > 0 {
            match file.write(&block[..size]) {
                Ok(written) if written == size => {}
                Ok(_) | Err(_) => size /= 2,
            }
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left)).unwrap();
    }

    /// Takes away what filled it.
    pub fn free(&self) {
        fs::remove_file(self.seen(&self.path().join("ballast"))).unwrap();
    }

    /// Copies a folder onto it.
    pub fn take(&self, from: &Path) -> PathBuf {
        let name = from.file_name().unwrap();
        let done = Command::new("cp").arg("-r").arg(from).arg(self.seen(self.path())).status().unwrap();
        assert!(done.success());
        self.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// All that a stream says.
pub fn all_of(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
