//! The window's log: one file in the data folder, for what people cannot see otherwise. No requests, no texts of theirs.

use std::{
    fmt::Arguments,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use store::Home;

/// A log that has grown beyond this is put aside as `desktop.old.log` by the next start.
const LARGE: u64 = 1 << 20;

/// Where notes go; nowhere while the data folder cannot be written.
#[derive(Clone, Default)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<Arc<Mutex<File>>>,
}

impl Log {
    /// Opens `logs/desktop.log` of the data folder.
    pub fn open() -> Self {
        let Ok(home) = Home::open() else { return Self::default() };
        let folder = home.path().join("logs");
        let path = folder.join("desktop.log");
        if fs::create_dir_all(&folder).is_err() {
            return Self::default();
        }
        if fs::metadata(&path).is_ok_and(|file| file.len() > LARGE) {
            let _ = fs::rename(&path, folder.join("desktop.old.log"));
        }
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Self { path: Some(path), file: Some(Arc::new(Mutex::new(file))) },
            Err(_) => Self::default(),
        }
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Adds one line with the time.
    pub fn write(&self, line: Arguments) {
        let Some(file) = &self.file else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not take the window with it.
        let _ = writeln!(file, "{} {line}", types::id::now_rfc3339());
    }

    /// Has panics written here too.
    pub fn keep_panics(&self) {
        let log = self.clone();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            log.write(format_args!("{panic}"));
            before(panic);
        }));
    }
}
