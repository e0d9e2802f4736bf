//! How fast this machine computes, measured in about two seconds by the same product that training spends its time in.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use types::engine::{Calibration, exit};

use crate::{complain, device, tell};

/// Tokens of the product that is measured, and width of its square weight: a layer of a small model.
const TOKENS: usize = 512;
const WIDTH: usize = 1024;
/// Values that are copied: 64 MB, more than the caches of most processors hold.
const COPIED: usize = 16 << 20;

/// Runs that the median is taken of at least, and how long more are added.
const RUNS: usize = 3;
const BUDGET: Duration = Duration::from_millis(500);

/// Measures and tells it in one line. Exit codes: 0 measured, 1 failed.
pub fn main() -> u8 {
    match measure().and_then(|rates| Ok(tell(&rates)?)) {
        Ok(()) => exit::SUCCESS,
        Err(error) => {
            complain(error);
            exit::FAILURE
        }
    }
}

fn measure() -> Result<Calibration> {
    kernels::stop_busy_waiting();
    kernels::keep_freed_memory();
    let device = device::measured()?;
    Ok(Calibration {
        device: device::name(&device).into(),
        threads: rayon::current_num_threads(),
        matmul_f32_flops: product(&device, DType::F32)?,
        matmul_bf16_flops: product(&device, kernels::computed_in(&device, true, false)?)?,
        memory_bytes_per_second: copy()?,
    })
}

/// Operations a second of `[TOKENS, WIDTH]` by a frozen `[WIDTH, WIDTH]` weight.
fn product(device: &Device, dtype: DType) -> Result<f64> {
    let x = Tensor::rand(-1f32, 1f32, (TOKENS, WIDTH), device)?;
    let weight = Tensor::rand(-1f32, 1f32, (WIDTH, WIDTH), device)?.to_dtype(dtype)?;
    let seconds = median_seconds(|| {
        let y = kernels::fused_product(&x, &weight)?;
        // A card computes while this thread goes on.
        device.synchronize()?;
        drop(black_box(y));
        Ok(())
    })?;
    Ok(2.0 * (TOKENS * WIDTH * WIDTH) as f64 / seconds)
}

/// Bytes a second that all threads together read and write while copying.
fn copy() -> Result<f64> {
    let from = vec![1f32; COPIED];
    let mut to = vec![0f32; COPIED];
    let piece = COPIED.div_ceil(rayon::current_num_threads());
    let seconds = median_seconds(|| {
        to.par_chunks_mut(piece).zip(from.par_chunks(piece)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&mut to);
        Ok(())
    })?;
    Ok(2.0 * (COPIED * size_of::<f32>()) as f64 / seconds)
}

/// The median time of several runs, after one that touches all memory for the first time.
fn median_seconds(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < RUNS || begin.elapsed() < BUDGET {
        let started = Instant::now();
        run()?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
