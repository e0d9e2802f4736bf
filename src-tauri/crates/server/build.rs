//! Puts the built user interface (`ui/dist`), where there is one, into the program: a table of paths and file contents.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../ui/dist");
    // cargo looks for changes only in what exists.
    fs::create_dir_all(&dist)?;
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    collect(&dist.canonicalize()?, "", &mut files)?;
    files.sort();
    let rows: String =
        files.iter().map(|(url, path)| format!("({url:?}, include_bytes!({path:?})),\n")).collect();
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    // A half-written file is made again by the next build.
    #[allow(clippy::disallowed_methods)]
    fs::write(Path::new(&out).join("ui.rs"), format!("&[{rows}]"))
}

fn collect(folder: &Path, above: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let url = format!("{above}/{name}");
        if path.is_dir() {
            collect(&path, &url, files)?;
        } else {
            files.push((url, path));
        }
    }
    Ok(())
}
