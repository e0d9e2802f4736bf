//! Gradients that stay on the card, their norm, and AdamW's update of weights there.

use candle_core::{
    CpuStorage, CudaStorage, Device, InplaceOp1, Layout, Result, Tensor, TensorId, Var, bail,
    cuda_backend::cudarc::driver::CudaSlice,
};

use super::{
    beside::{AdapterGradient, table},
    card::{Arg, Card, Grid, Numbers, Source, numbers, numbers_of},
    moments::Moments,
};
use crate::AdamWStep;

impl Card<'_> {
    /// `x ← factor · x`
    pub(super) fn scale(&self, x: Numbers, factor: f32, count: usize) -> Result<()> {
        let args = [x.into(), factor.into(), Arg::Long(count as i64)];
        self.start(Source::Train, "multiply_by", Grid::threads(count), &args)
    }
}

/// Numbers whose squares one block sums.
const PART: usize = 1 << 14;

/// Gradients of several tensors, one after the other on the card.
#[derive(Debug, Clone)]
pub struct CardGradients {
    device: Device,
    sums: CudaSlice<f32>,
    /// Where each begins, and where the last one ends.
    places: Vec<usize>,
    /// Set by an update that makes a weight that is not finite.
    bad: CudaSlice<u32>,
}

impl PartialEq for CardGradients {
    /// By their values; what cannot be read equals nothing.
    fn eq(&self, other: &Self) -> bool {
        matches!((self.to_vecs(), other.to_vecs()), (Ok(own), Ok(others)) if own == others)
    }
}

impl CardGradients {
    /// Zeros for tensors of these sizes.
    ///
    /// # Errors
    /// The device is no card, or has no memory left.
    pub fn zeros(device: &Device, lengths: impl IntoIterator<Item = usize>) -> Result<Self> {
        let card = device.as_cuda_device()?;
        let mut places = vec![0];
        let mut end = 0;
        for length in lengths {
            end += length;
            places.push(end);
        }
        let sums = card.alloc_zeros::<f32>(end.max(1))?;
        Ok(CardGradients { device: device.clone(), sums, places, bad: card.alloc_zeros(1)? })
    }

    fn card(&self) -> Result<Card<'_>> {
        self.device.as_cuda_device().map(Card)
    }

    fn place(&self, index: usize) -> Result<(Numbers, usize)> {
        let [first, end] =
            self.places.get(index..).and_then(|places| places.first_chunk()).copied().unwrap_or_default();
        Ok((self.card()?.f32(&self.sums).from(first), end - first))
    }

    /// How many numbers there are in all.
    fn len(&self) -> usize {
        self.places.last().copied().unwrap_or(0)
    }

    /// Makes all of them zero again.
    ///
    /// # Errors
    /// The card fails.
    pub fn reset(&mut self) -> Result<()> {
        let stream = self.device.as_cuda_device()?.cuda_stream();
        stream.memset_zeros(&mut self.sums).map_err(candle_core::Error::wrap)
    }

    /// Adds the gradient of tensor `index`.
    ///
    /// # Errors
    /// It has another number of elements than the tensor, or is not on this card in f32.
    pub fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        let (place, length) = self.place(index)?;
        let gradient = gradient.contiguous()?;
        let from = numbers(&gradient)?;
        if gradient.elem_count() != length || from.precision.is_narrow() {
            bail!("a gradient of {:?} does not fit tensor {index}", gradient.shape());
        }
        let args = [from.into(), place.into(), Arg::Long(length as i64)];
        self.card()?.start(Source::Train, "add_to", Grid::threads(length), &args)
    }

    /// Adds the gradients of a layer's adapters; `index` tells which tensor is which. Gives which were added to.
    ///
    /// # Errors
    /// One of them is no tensor of these.
    pub fn add_part(
        &mut self,
        part: &AdapterGradient,
        index: impl Fn(TensorId) -> Option<usize>,
    ) -> Result<Vec<usize>> {
        let (mut places, mut added) = (Vec::new(), Vec::new());
        for &(id, count) in &part.of {
            let Some(index) = index(id) else { bail!("a gradient came for a tensor that is not trained") };
            let (place, length) = self.place(index)?;
            if length != count {
                bail!("a gradient of {count} values does not fit tensor {index}");
            }
            places.push((place.at, count));
            added.push(index);
        }
        let (table, count) = table(places.into_iter());
        let args = [numbers(&part.values)?.into(), Arg::Table(table), Arg::Long(count as i64)];
        self.card()?.start(Source::Train, "add_parts", Grid::threads(count), &args)?;
        Ok(added)
    }

    /// The 2-norm of all together.
    ///
    /// # Errors
    /// The card fails.
    pub fn norm(&self) -> Result<f64> {
        let (card, count) = (self.card()?, self.len());
        let parts = card.0.alloc_zeros::<f64>(count.div_ceil(PART).max(1))?;
        let args = [
            card.f32(&self.sums).into(),
            Arg::At(card.address(&parts)),
            Arg::Long(count as i64),
            Arg::Long(PART as i64),
        ];
        card.start(Source::Train, "sum_of_squares", Grid::each(count.div_ceil(PART), 256), &args)?;
        Ok(card.0.clone_dtoh(&parts)?.into_iter().sum::<f64>().sqrt())
    }

    /// Multiplies all.
    ///
    /// # Errors
    /// The card fails.
    pub fn scale(&mut self, factor: f32) -> Result<()> {
        let card = self.card()?;
        card.scale(card.f32(&self.sums), factor, self.len())
    }

    /// Each of them in the machine's memory.
    ///
    /// # Errors
    /// The card fails.
    pub fn to_vecs(&self) -> Result<Vec<Vec<f32>>> {
        let all = self.card()?.0.clone_dtoh(&self.sums)?;
        Ok(self.places.windows(2).map(|w| all[w[0]..w[1]].to_vec()).collect())
    }

    /// That of tensor `index` in the machine's memory.
    ///
    /// # Errors
    /// The card fails.
    pub fn to_vec(&self, index: usize) -> Result<Vec<f32>> {
        let (_, length) = self.place(index)?;
        let first = self.places[index];
        self.card()?.0.clone_dtoh(&self.sums.slice(first..first + length))
    }

    /// Whether all weights were finite since this was asked last.
    ///
    /// # Errors
    /// The card fails.
    pub fn all_finite(&mut self) -> Result<bool> {
        let card = self.device.as_cuda_device()?;
        let bad = card.clone_dtoh(&self.bad)?;
        let finite = bad == [0];
        if !finite {
            self.bad = card.alloc_zeros(1)?;
        }
        Ok(finite)
    }
}

/// One AdamW update of a variable on the card by gradient `index`.
///
/// # Errors
/// The sizes do not fit each other, the variable is not on the card, or the card fails.
pub fn adamw_on_card(
    step: AdamWStep,
    weights: &Var,
    gradients: &CardGradients,
    index: usize,
    moments: &Moments,
) -> Result<()> {
    let (gradient, length) = gradients.place(index)?;
    if weights.elem_count() != length || moments.len() != length {
        bail!("a variable of {:?} does not fit gradient {index}", weights.shape());
    }
    let bad = gradients.card()?.address(&gradients.bad);
    let [m, v] = moments.numbers();
    weights.inplace_op1(&Update { step, gradient, m, v, bad, length })
}

struct Update {
    step: AdamWStep,
    gradient: Numbers,
    m: Numbers,
    v: Numbers,
    bad: u64,
    length: usize,
}

impl InplaceOp1 for Update {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("this update is one on the card")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let weights = numbers_of(storage, layout)?;
        if weights.precision.is_narrow() {
            bail!("only f32 variables are trained");
        }
        let (decay, step_size, root_correction) = self.step.factors();
        let card = Card(candle_core::backend::BackendStorage::device(storage));
        let args = [
            weights.into(),
            self.gradient.into(),
            self.m.into(),
            self.v.into(),
            Arg::At(self.bad),
            decay.into(),
            step_size.into(),
            root_correction.into(),
            Arg::Long(self.length as i64),
        ];
        card.start(Source::Train, "adamw", Grid::threads(self.length), &args)
    }
}
