//! Made-up numbers, and how far results are apart.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test and benchmark uses a part; a failure here is one there"
)]

#[path = "../../../../../tests/golden/place.rs"]
pub mod place;

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{Level, seed};

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
    Tensor::from_vec((0..count).map(value).collect::<Vec<f32>>(), shape, &place::device()).unwrap()
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

/// An operation of some inputs.
pub type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Compares `op` with `reference` on inputs of these shapes: in f32, then in bf16 with the reference in f32 on the
/// same rounded numbers.
pub fn check(name: &str, shapes: &[&[usize]], op: Op, reference: Op) {
    for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::BF16, 1.5e-2)] {
        let inputs: Vec<Tensor> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| numbers(shape, i as u64 + 7, 1.0).to_dtype(dtype).unwrap())
            .collect();
        let run = |f: Op, as_type: DType| -> Result<(Tensor, Vec<Tensor>)> {
            let vars: Vec<Var> =
                inputs.iter().map(|t| Var::from_tensor(&t.to_dtype(as_type)?)).collect::<Result<_>>()?;
            // An operation before it, so that its inputs are not the variables themselves.
            let tracked: Vec<Tensor> = vars.iter().map(|v| v.affine(1.0, 0.0)).collect::<Result<_>>()?;
            let y = f(&tracked)?;
            let gradients = seed(&y, &numbers(y.dims(), 99, 1.0).to_dtype(y.dtype())?)?.backward()?;
            let all =
                vars.iter().map(|v| gradients.get(v).cloned().expect("every input must get a gradient"));
            let all: Vec<Tensor> = all.collect();
            Ok((y, all))
        };
        let (got, got_gradients) = run(op, dtype).unwrap();
        let (want, want_gradients) = run(reference, DType::F32).unwrap();
        let apart = distance(&got, &want, 0.0);
        assert!(apart < tolerance, "{name} {shapes:?} {dtype:?}: the output is {apart} from the reference");
        for (i, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
            let apart = distance(got, want, 0.0);
            assert!(
                apart < tolerance,
                "{name} {shapes:?} {dtype:?}: gradient {i} is {apart} from the reference"
            );
        }
    }
}
