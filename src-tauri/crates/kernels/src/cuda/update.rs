//! Updates of variables on the card, by gradients that are there.

use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Var, bail};

use super::{
    card::{Arg, Card, Grid, Source, numbers_of},
    moments::{CodedMoments, Moments},
    optimizer::CardGradients,
};
use crate::{AdamWStep, DynamicMap};

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
    let (gradient, length) = fitting(weights, gradients, index, moments.len())?;
    let [m, v] = moments.numbers();
    let means = [gradient, m.into(), v.into(), gradients.bad()?];
    let rest = [&means[..], &factors(step, length)].concat();
    weights.inplace_op1(&Update { kernel: "adamw", grid: Grid::threads(length), rest })
}

/// The same with means that are kept in codes of eight bits.
///
/// # Errors
/// As [`adamw_on_card`].
pub fn adamw_8bit_on_card(
    step: AdamWStep,
    weights: &Var,
    gradients: &CardGradients,
    index: usize,
    moments: &CodedMoments,
) -> Result<()> {
    let (gradient, length) = fitting(weights, gradients, index, moments.len())?;
    let means = [&[gradient], &moments.args(gradients.card()?)[..], &[gradients.bad()?]].concat();
    let rest = [&means[..], &factors(step, length)].concat();
    let grid = Grid::each(length.div_ceil(DynamicMap::BLOCK), DynamicMap::BLOCK as u32);
    weights.inplace_op1(&Update { kernel: "adamw_8bit", grid, rest })
}

/// `w ← w − rate · (g + decay · w)`
///
/// # Errors
/// As [`adamw_on_card`].
pub fn sgd_on_card(
    (rate, decay): (f32, f32),
    weights: &Var,
    gradients: &CardGradients,
    index: usize,
) -> Result<()> {
    let (gradient, length) = fitting(weights, gradients, index, weights.elem_count())?;
    let rest = vec![gradient, gradients.bad()?, rate.into(), decay.into(), Arg::Long(length as i64)];
    weights.inplace_op1(&Update { kernel: "sgd", grid: Grid::threads(length), rest })
}

/// A gradient and its length, which is that of its variable and of what is kept of it.
fn fitting(weights: &Var, gradients: &CardGradients, index: usize, kept: usize) -> Result<(Arg, usize)> {
    let (gradient, length) = gradients.place(index)?;
    if weights.elem_count() != length || kept != length {
        bail!("a variable of {:?} with {kept} means does not fit gradient {index}", weights.shape());
    }
    Ok((gradient.into(), length))
}

/// The end of the arguments of AdamW.
fn factors(step: AdamWStep, length: usize) -> [Arg; 4] {
    let (decay, step_size, root_correction) = step.factors();
    [decay.into(), step_size.into(), root_correction.into(), Arg::Long(length as i64)]
}

/// A kernel that is given a variable's values, which it changes, and `rest`.
struct Update {
    kernel: &'static str,
    grid: Grid,
    rest: Vec<Arg>,
}

impl InplaceOp1 for Update {
    fn name(&self) -> &'static str {
        self.kernel
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("this update is one on the card")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let weights = numbers_of(storage, layout)?;
        if weights.precision.is_narrow() {
            bail!("only f32 variables are trained");
        }
        let args = [&[weights.into()], self.rest.as_slice()].concat();
        let card = Card(candle_core::backend::BackendStorage::device(storage));
        card.start(Source::Train, self.kernel, self.grid, &args)
    }
}
