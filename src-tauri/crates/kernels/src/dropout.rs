//! Dropout whose mask is a function of its seed alone, so that a layer computed again drops the same values.

use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use crate::{
    composed,
    level::vectorised,
    slices::{floats, for_each_row, store, tensor_like, with_floats},
};

/// Sets each value to 0 with this `probability` and divides the others by `1 − probability`. Same shape and seed, same
/// mask, on any number of threads.
pub fn dropout(x: &Tensor, probability: f32, seed: u64) -> Result<Tensor> {
    if !(0.0..1.0).contains(&probability) {
        bail!("the dropout probability must be at least 0 and below 1, not {probability}");
    }
    if probability == 0.0 {
        return Ok(x.clone());
    }
    let mask = Mask::new(probability, seed);
    if composed::wanted(x, x.dtype() == DType::F32) {
        return composed::dropout(x, mask);
    }
    x.contiguous()?.apply_op1(Dropout(mask))
}

/// Which values of a matrix are dropped: a function of the seed and the place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mask {
    /// Of 65536 values, so many are dropped.
    threshold: u32,
    scale: f32,
    seed: u64,
}

impl Mask {
    pub(crate) fn new(probability: f32, seed: u64) -> Self {
        Mask { threshold: (probability * 65536.0).round() as u32, scale: 1.0 / (1.0 - probability), seed }
    }

    /// Of 65536 values how many are dropped, the factor of the others, and the seed.
    #[cfg(feature = "cuda")]
    pub(crate) fn parts(self) -> (u32, f32, u64) {
        (self.threshold, self.scale, self.seed)
    }

    /// What each value of a tensor of this shape is multiplied by.
    pub(crate) fn factors(self, shape: &Shape) -> Vec<f32> {
        let mut factors = vec![1f32; shape.elem_count()];
        self.apply_to(&mut factors, shape);
        factors
    }

    fn apply_to(&self, values: &mut [f32], shape: &Shape) {
        let width = shape.dims().last().copied().unwrap_or(1);
        for_each_row(values, width, |i, row| self.apply(i, row));
    }

    /// Drops values of row `row`, and scales the others.
    pub(crate) fn apply(&self, row: usize, values: &mut [f32]) {
        let key = splitmix64(self.seed, row as u64);
        drop_row(key as u32, (key >> 32) as u32, self.threshold, self.scale, values);
    }
}

/// Number `counter` of the SplitMix64 generator started at `seed` (Steele, Lea & Flood 2014).
fn splitmix64(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

vectorised! {
    /// Each 32 random bits, a counter put through a mixer of 32-bit multiplications keyed by the row, decide on a value of
    /// the first half by their low 16 and on one of the second half by their high 16.
    fn drop_row(key: u32, other: u32, threshold: u32, scale: f32, values: &mut [f32]) {
        let (first, second) = values.split_at_mut(values.len().div_ceil(2));
        let bits = |i: usize| {
            let mut x = key.wrapping_add((i as u32).wrapping_mul(0x9e37_79b9));
            x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d) ^ other;
            x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
            x ^ (x >> 16)
        };
        for (i, v) in first.iter_mut().enumerate() {
            *v *= if bits(i) & 0xffff < threshold { 0.0 } else { scale };
        }
        for (i, v) in second.iter_mut().enumerate() {
            *v *= if bits(i) >> 16 < threshold { 0.0 } else { scale };
        }
    }
}

struct Dropout(Mask);

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(storage, layout)?.into_owned();
        self.0.apply_to(&mut y, layout.shape());
        Ok((store(y, storage.dtype()), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::dropout(storage, layout, self.0)
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !grad.device().is_cpu() {
            return grad.contiguous()?.apply_op1_no_bwd(self).map(Some);
        }
        let mut dx = with_floats(grad, <[f32]>::to_vec)?;
        self.0.apply_to(&mut dx, arg.shape());
        tensor_like(dx, arg).map(Some)
    }
}
