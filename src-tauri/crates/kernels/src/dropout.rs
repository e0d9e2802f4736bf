//! Dropout whose mask is a function of its seed alone, so that a layer computed again drops the same values.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::slices::{floats, for_each_row, store, tensor_like, with_floats};

/// Sets each value to 0 with this `probability` and divides the others by `1 − probability`. Same shape and seed, same
/// mask, on any number of threads.
pub fn dropout(x: &Tensor, probability: f32, seed: u64) -> Result<Tensor> {
    if !(0.0..1.0).contains(&probability) {
        bail!("the dropout probability must be at least 0 and below 1, not {probability}");
    }
    if probability == 0.0 {
        return Ok(x.clone());
    }
    x.contiguous()?.apply_op1(Dropout { probability, seed })
}

struct Dropout {
    probability: f32,
    seed: u64,
}

impl Dropout {
    fn apply(&self, values: &mut [f32], shape: &Shape) {
        let threshold = (f64::from(self.probability) * 2f64.powi(32)) as u64;
        let scale = 1.0 / (1.0 - self.probability);
        let width = shape.dims().last().copied().unwrap_or(1);
        for_each_row(values, width, |i, row| {
            let first = (i * width) as u64;
            for (counter, v) in (first..).zip(row) {
                let dropped = splitmix64(self.seed, counter) >> 32 < threshold;
                *v *= if dropped { 0.0 } else { scale };
            }
        });
    }
}

/// Number `counter` of the SplitMix64 generator started at `seed` (Steele, Lea & Flood 2014).
fn splitmix64(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(storage, layout)?.into_owned();
        self.apply(&mut y, layout.shape());
        Ok((store(y, storage.dtype()), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        self.apply(&mut dx, arg.shape());
        tensor_like(dx, arg).map(Some)
    }
}
