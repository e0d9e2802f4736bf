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
const SIZE: [usize; 2] = [512, 1024];
/// The same on a card, which smaller ones do not keep busy.
const SIZE_ON_CARD: [usize; 2] = [2048, 4096];
/// Values that are copied: 64 MB, more than the caches of most processors hold; and on a card, whose caches are larger.
const COPIED: usize = 16 << 20;
const COPIED_ON_CARD: usize = 128 << 20;

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
        memory_bytes_per_second: if device.is_cuda() { copy_on(&device)? } else { copy()? },
    })
}

/// Operations a second of `[tokens, width]` by a frozen `[width, width]` weight.
fn product(device: &Device, dtype: DType) -> Result<f64> {
    let [tokens, width] = if device.is_cuda() { SIZE_ON_CARD } else { SIZE };
    let x = Tensor::rand(-1f32, 1f32, (tokens, width), device)?;
    let weight = Tensor::rand(-1f32, 1f32, (width, width), device)?.to_dtype(dtype)?;
    let seconds = median_seconds(|| {
        let y = kernels::fused_product(&x, &weight)?;
        // A card computes while this thread goes on.
        device.synchronize()?;
        drop(black_box(y));
        Ok(())
    })?;
    Ok(2.0 * (tokens * width * width) as f64 / seconds)
}

/// Bytes a second that a card reads and writes while copying.
fn copy_on(device: &Device) -> Result<f64> {
    let from = Tensor::zeros(COPIED_ON_CARD, DType::F32, device)?;
    let seconds = median_seconds(|| {
        let to = from.copy()?;
        device.synchronize()?;
        drop(black_box(to));
        Ok(())
    })?;
    Ok(2.0 * (COPIED_ON_CARD * size_of::<f32>()) as f64 / seconds)
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
