//! The engine for NVIDIA cards: whether it can be built here, its pack, and its tests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::process::{cargo, run as execute, say, succeeds, target_folder};

/// The program.
const ENGINE: &str = "modelforge-engine-cuda";
/// What it is linked to and the driver does not bring, by the beginning of their names.
const LIBRARIES: [&str; 4] = ["libcublas.so.", "libcublasLt.so.", "libcudart.so.", "libcurand.so."];
/// The least compute capability that candle's own kernels are compiled for; later cards compile them as they start.
const LEAST_CAPABILITY: &str = "75";

/// Where CUDA's compiler and libraries are: `CUDA_HOME`, or where they are installed by default.
fn home() -> PathBuf {
    env::var_os("CUDA_HOME").map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from)
}

/// Whether CUDA's compiler is there.
pub fn can_be_built() -> bool {
    succeeds(Command::new(home().join("bin/nvcc")).arg("--version"))
}

/// Cargo with all that building for cards needs.
fn cargo_for_cards() -> Command {
    let mut command = cargo();
    let home = home();
    let libraries = home.join("lib64");
    command.env("CUDA_HOME", &home).env("CUDA_COMPUTE_CAP", LEAST_CAPABILITY);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} -L native={}", libraries.display()));
    command
}

/// Checks the types of all that is compiled for cards only.
pub fn check() -> Result<()> {
    execute(cargo_for_cards().args(["check", "--locked", "--package", "engine", "--features", "cuda"]))
}

/// The tests that also compute on a card.
const ON_CARDS: [&str; 12] = [
    "card",
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

/// The tests that compare a card with the processor. They skip themselves where there is no card.
pub fn test() -> Result<()> {
    let mut command = cargo_for_cards();
    command.args(["test", "--locked", "--features", "kernels/cuda,models/cuda,train/cuda,infer/cuda"]);
    for package in ["kernels", "models", "train", "infer"] {
        command.args(["--package", package]);
    }
    for test in ON_CARDS {
        command.args(["--test", test]);
    }
    execute(command.args(["--", "--nocapture"]))
}

/// Builds the engine and puts it with its libraries into a folder: the program goes beside `modelforge`, the folder `cuda` beside both.
pub fn pack() -> Result<()> {
    let mut build = cargo_for_cards();
    build.args(["build", "--release", "--locked", "--package", "engine", "--features", "cuda"]);
    execute(build.args(["--bin", ENGINE]))?;
    let folder = target_folder()?.join("dist/cuda-pack");
    fs::create_dir_all(folder.join("cuda")).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut total = copy(&target_folder()?.join("release").join(ENGINE), &folder.join(ENGINE))?;
    let libraries = home().join("lib64");
    for entry in fs::read_dir(&libraries).with_context(|| format!("cannot list {}", libraries.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if LIBRARIES.iter().any(|library| name.strip_prefix(library).is_some_and(|v| !v.contains('.'))) {
            total += copy(&path, &folder.join("cuda").join(&name))?;
        }
    }
    say(&format!("{:>9.2} MB  {}", total as f64 / 1e6, folder.display()));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<u64> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))
}
