//! Made-up numbers, and how far results are apart.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test and benchmark uses a part; a failure here is one there"
)]

use candle_core::{DType, Device, Tensor};
use kernels::Level;

pub const CPU: Device = Device::Cpu;

/// Numbers between −`spread` and `spread` that look random, the same on every machine.
pub fn numbers(shape: &[usize], salt: u64, spread: f32) -> Tensor {
    let count = shape.iter().product::<usize>() as u64;
    let value = |i: u64| {
        let mixed = (i + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(salt.wrapping_mul(0xd134_2543_de82_ef95));
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * spread
    };
    Tensor::from_vec((0..count).map(value).collect::<Vec<f32>>(), shape, &CPU).unwrap()
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub fn norm(values: &[f32]) -> f32 {
    values.iter().map(|v| v * v).sum::<f32>().sqrt()
}

/// How far apart they are, relative to the norm of `want`, or to `least` where that is more.
pub fn distance(got: &Tensor, want: &Tensor, least: f32) -> f32 {
    assert_eq!(got.dims(), want.dims(), "the shapes must agree");
    let (got, want) = (values(got), values(want));
    let apart: Vec<f32> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
    norm(&apart) / norm(&want).max(least).max(1e-6)
}

/// Runs all tests of this program once for each level of instructions that the machine has; in such a run, nothing.
pub fn at_every_level() {
    if std::env::var_os(Level::VARIABLE).is_some() {
        return;
    }
    for level in Level::available() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .env(Level::VARIABLE, level.name())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "all of these tests must pass at level {}:\n{text}", level.name());
    }
}
