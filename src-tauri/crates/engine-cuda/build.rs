//! How the library is linked on Linux: it finds what is packed beside it, and asks for the driver's library itself.
#![allow(clippy::print_stdout, reason = "cargo is told so")]

use std::{env, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Some(home) = env::var_os("CUDA_HOME") {
        for folder in ["lib64", "lib/x64"].map(|folder| Path::new(&home).join(folder)) {
            println!("cargo:rustc-link-search=native={}", folder.display());
        }
    }
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // Where it is built without a driver, a library of that name and nothing in it stands for the driver's: what is needed of it
        // is looked for when the engine is loaded.
        for argument in ["-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed", "-lcuda"] {
            println!("cargo:rustc-link-arg-cdylib={argument}");
        }
    }
}
