//! Compiles the kernels for NVIDIA cards, where they are wanted, to PTX, which the driver compiles for the card it finds.
#![allow(clippy::print_stdout, reason = "cargo is told so")]

use std::{env, error::Error, path::PathBuf, process::Command};

/// What comes out, the source, the least compute capability that has what it uses, and what is defined for it.
const SOURCES: [(&str, &str, &str, &[&str]); 6] = [
    ("rows", "rows", "compute_75", &[]),
    ("train", "train", "compute_75", &[]),
    ("plain", "plain", "compute_75", &[]),
    ("attention", "attention", "compute_80", &[]),
    ("attention-half", "attention", "compute_80", &["-DHALF"]),
    ("attention-turing", "attention", "compute_75", &["-DHALF", "-DTURING"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("src/cuda/source");
    println!("cargo:rerun-if-changed={}", folder.display());
    println!("cargo:rerun-if-env-changed=NVCC");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let nvcc = env::var("NVCC")
        .map(PathBuf::from)
        .or_else(|_| env::var("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc")));
    let nvcc = nvcc.unwrap_or_else(|_| PathBuf::from("nvcc"));
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, source, capability, defined) in SOURCES {
        let status = Command::new(&nvcc)
            .args(["--ptx", "-O3", "-std=c++17", "-arch", capability])
            .args(defined)
            .arg("-o")
            .arg(out.join(format!("{name}.ptx")))
            .arg(folder.join(format!("{source}.cu")))
            .status()
            .map_err(|error| format!("{}: {error}; CUDA_HOME or NVCC says where it is", nvcc.display()))?;
        if !status.success() {
            return Err(format!("nvcc could not compile {source}.cu to {name}.ptx").into());
        }
    }
    Ok(())
}
