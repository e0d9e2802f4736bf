//! The engine for NVIDIA cards: what it is built with, its pack, and the tests that compare a card with the processor.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use types::files;

use crate::{
    process::{cache, cargo, output, root, run as execute, say, succeeds, target_folder},
    python,
};

/// The package that the engine is built from.
const PACKAGE: [&str; 2] = ["--package", "engine-cuda"];
/// Those with tests that compare a card with the processor.
const TESTED: [&str; 8] =
    ["--package", "kernels", "--package", "models", "--package", "train", "--package", "infer"];
/// The tests that compute on a card too.
const ON_CARDS: [&str; 12] = [
    "card*",
    "reference",
    "disentangled",
    "pair_attention",
    "parity",
    "pairs",
    "spans",
    "quantised",
    "preferences",
    "extract",
    "session",
    "batch",
];
/// The library with the engine in it, and the program that loads it.
const BUILT: [&str; 2] = if cfg!(windows) {
    ["engine_cuda.dll", "modelforge-engine-cuda.exe"]
} else {
    ["libengine_cuda.so", "modelforge-engine-cuda"]
};
/// What it is linked to and the driver does not bring, by the beginnings of their names, and where CUDA has them.
const LIBRARIES: (&str, [&str; 4]) = if cfg!(windows) {
    ("bin/x64", ["cublas64_", "cublasLt64_", "cudart64_", "curand64_"])
} else {
    ("lib64", ["libcublas.so.", "libcublasLt.so.", "libcudart.so.", "libcurand.so."])
};
/// The least compute capability that candle's own kernels are compiled for; later cards compile them as they start.
const LEAST_CAPABILITY: &str = "75";
/// The version of CUDA that is built for, as the bindings count it.
const VERSION: &str = "13000";
/// Where CUDA lies in an environment of Python.
const IN_PACKAGES: &str = "nvidia/cu13";

/// CUDA's compiler, headers and libraries.
pub struct Cuda {
    home: PathBuf,
}

impl Cuda {
    /// That of `CUDA_HOME`, of this machine, or else of packages that are installed into our cache.
    ///
    /// # Errors
    /// There is none for this system, or it cannot be installed.
    pub fn find() -> Result<Self> {
        let given = env::var_os("CUDA_HOME").map(PathBuf::from);
        let usable = |home: &PathBuf| succeeds(Command::new(home.join("bin/nvcc")).arg("--version"));
        if let Some(home) = given.into_iter().chain([PathBuf::from("/usr/local/cuda")]).find(usable) {
            return Ok(Self { home });
        }
        ensure!(!cfg!(target_os = "macos"), "there is no CUDA for macOS");
        let requirements = root().join("src-tauri/crates/engine-cuda/requirements.txt");
        let python = python::environment(&cache()?, &requirements)?;
        let ask = "import sysconfig; print(sysconfig.get_path('platlib'))";
        let packages = output(Command::new(python).args(["-c", ask]))?;
        let home = Path::new(packages.trim()).join(IN_PACKAGES);
        ensure!(usable(&home), "{} has no nvcc that runs", home.display());
        #[cfg(target_os = "linux")]
        make_links(&home)?;
        Ok(Self { home })
    }

    /// Cargo with all that building for cards needs.
    fn cargo(&self) -> Result<Command> {
        let bin = self.home.join("bin");
        let old = env::var_os("PATH").unwrap_or_default();
        let path: OsString = env::join_paths([bin.clone()].into_iter().chain(env::split_paths(&old)))?;
        let mut command = cargo();
        for name in ["CUDA_HOME", "CUDA_PATH", "CUDA_TOOLKIT_ROOT_DIR"] {
            command.env(name, &self.home);
        }
        command.env("NVCC", bin.join("nvcc")).env("PATH", path);
        command.env("CUDA_COMPUTE_CAP", LEAST_CAPABILITY).env("CUDARC_CUDA_VERSION", VERSION);
        Ok(command)
    }

    /// Lints all that is compiled for cards only, tests included.
    pub fn clippy(&self) -> Result<()> {
        let mut command = self.cargo()?;
        command.args(["clippy", "--locked", "--lib", "--bins", "--tests"]).args(PACKAGE).args(TESTED);
        command.args(["--features", "engine-cuda/cuda,kernels/cuda,models/cuda,train/cuda,infer/cuda"]);
        execute(command.args(["--", "--deny", "warnings"]))
    }

    /// The tests that compare a card with the processor.
    pub fn test(&self) -> Result<()> {
        let mut command = self.cargo()?;
        command.args(["test", "--locked"]).args(TESTED);
        command.args(ON_CARDS.iter().flat_map(|test| ["--test", test]));
        command.args(["--features", "kernels/cuda,models/cuda,train/cuda,infer/cuda"]);
        execute(command.args(["--", "--nocapture"]))
    }

    /// Builds the engine and puts it with its libraries into a folder, which goes beside `modelforge`.
    pub fn pack(&self) -> Result<()> {
        let mut build = self.cargo()?;
        build.args(["build", "--release", "--locked", "--lib", "--bins", "--features", "cuda"]).args(PACKAGE);
        execute(&mut build)?;
        let target = target_folder()?;
        let folder = target.join("dist/cuda");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut total = 0;
        for name in BUILT {
            total += copy(&target.join("release").join(name), &folder.join(name))?;
        }
        let (place, names) = LIBRARIES;
        let libraries = self.home.join(place);
        for name in names {
            total += copy_library(&libraries, name, &folder)?;
        }
        say(&format!("{:>9.2} MB  {}", total as f64 / 1e6, folder.display()));
        Ok(())
    }
}

/// Whether there is a driver, without which no test on a card can even be linked.
pub fn has_driver() -> bool {
    if cfg!(windows) { Path::new("C:/Windows/System32/nvcuda.dll").is_file() } else { driver().is_some() }
}

/// The driver's library on Linux, which the loader knows the place of.
fn driver() -> Option<PathBuf> {
    let known = output(Command::new("ldconfig").arg("-p")).ok()?;
    let line = known
        .lines()
        .find(|line| line.trim_start().starts_with("libcuda.so.1 ") && line.contains("x86-64"))?;
    Some(PathBuf::from(line.split("=> ").nth(1)?.trim()))
}

/// What a linker looks for and the packages do not have: names without versions, `lib64`, and the driver's library, for which an
/// empty one stands where there is none. What is needed of it is looked for when the engine is loaded.
#[cfg(target_os = "linux")]
fn make_links(home: &Path) -> Result<()> {
    use std::os::unix::fs::symlink;

    let ready = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let lib = home.join("lib");
    ready(symlink("lib", home.join("lib64")))?;
    for entry in fs::read_dir(&lib).with_context(|| format!("cannot list {}", lib.display()))? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some((plain, _)) = name.split_once(".so.") {
            ready(symlink(name, lib.join(format!("{plain}.so"))))?;
        }
    }
    let stubs = lib.join("stubs");
    fs::create_dir_all(&stubs)?;
    let library = stubs.join("libcuda.so");
    if library.exists() {
        return Ok(());
    }
    if let Some(driver) = driver() {
        return Ok(ready(symlink(driver, &library))?);
    }
    let source = stubs.join("empty.c");
    files::write(&source, b"")?;
    execute(Command::new("cc").args(["-shared", "-Wl,-soname,libcuda.so.1", "-o"]).arg(&library).arg(&source))
}

/// The library whose name begins so, once: other names of it are links.
fn copy_library(folder: &Path, begins: &str, to: &Path) -> Result<u64> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let version = name.strip_prefix(begins).map(|rest| rest.trim_end_matches(".dll"));
        if version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit())) {
            return copy(&path, &to.join(&name));
        }
    }
    anyhow::bail!("{} has no {begins}", folder.display())
}

fn copy(from: &Path, to: &Path) -> Result<u64> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))
}
