//! Where the tests of a program compute: on the processor, and then again in every other way there is. The tests of several
//! crates include it by path.
#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "not every program reads all of it, what is skipped is told, and a failure here is a failed test"
)]

use std::sync::LazyLock;

use candle_core::{Device, Result};
use kernels::{COMPOSED, Level};

/// Set where a run of tests computes on the GPU.
const ON_GPU: &str = "MODELFORGE_TESTS_ON_GPU";

/// Where the tests of this run compute.
pub fn device() -> Device {
    // A model and what it is given must be on the same device, made once.
    static DEVICE: LazyLock<Device> =
        LazyLock::new(|| if std::env::var_os(ON_GPU).is_some() { gpu().unwrap() } else { Device::Cpu });
    DEVICE.clone()
}

/// Runs all tests of this program again with operations composed of candle's on the processor, and on the GPU where there is one that
/// the program is built for; in such a run, nothing.
pub fn everywhere() {
    if [ON_GPU, Level::VARIABLE].iter().any(|variable| std::env::var_os(variable).is_some()) {
        return;
    }
    again(Level::VARIABLE, COMPOSED);
    match gpu() {
        Ok(_) => again(ON_GPU, "1"),
        Err(error) => println!("SKIPPED on the GPU: {error}"),
    }
}

#[cfg(feature = "cuda")]
fn gpu() -> Result<Device> {
    kernels::card(0)
}

#[cfg(not(feature = "cuda"))]
fn gpu() -> Result<Device> {
    Device::new_metal(0)
}

fn again(variable: &str, value: &str) {
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    // One stream: one test at a time.
    let output = program.env(variable, value).arg("--test-threads=1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "all of these tests must pass with {variable}={value}:\n{text}");
    println!("{variable}={value}: as on the processor");
}
