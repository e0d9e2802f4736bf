//! Where the engine for cards finds the libraries that are packed with it.
#![allow(clippy::print_stdout, reason = "cargo is told so")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() && linux {
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN:$ORIGIN/cuda");
    }
}
