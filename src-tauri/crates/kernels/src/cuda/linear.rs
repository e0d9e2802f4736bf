//! Products with a frozen weight, and its numbers, where they are no part of a layer that is computed as a whole.

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, backend::BackendStorage};

use super::card::{Card, Matrix, Size, numbers, numbers_of};
use crate::FrozenWeight;

/// `x wᵀ` of f32 rows, which are rounded to the precision of the weight as they are multiplied.
pub(crate) fn frozen_linear(
    x: &CudaStorage,
    layout: &Layout,
    weight: &FrozenWeight,
) -> Result<(CudaStorage, Shape)> {
    let card = Card(x.device());
    let ((rows, _), (out, inputs)) = (layout.shape().dims2()?, weight.dims2()?);
    let (weight, _widened) = card.weight(weight)?;
    let (x, _narrowed) = card.narrowed(numbers_of(x, layout)?, rows * inputs, weight.precision)?;
    let y = card.floats(rows * out)?;
    let factors = (Matrix::rows(x, inputs), Matrix::columns(weight, inputs));
    card.multiply(Size { m: rows, n: out, k: inputs }, 1.0, factors, 0.0, (card.f32(&y), out))?;
    Ok((card.storage(y), Shape::from((rows, out))))
}

/// `g w`, the gradient of its rows.
pub(crate) fn frozen_linear_backward(g: &Tensor, weight: &FrozenWeight) -> Result<Tensor> {
    let g = g.contiguous()?;
    let card = Card::of(&g)?;
    let ((rows, _), (out, inputs)) = (g.dims2()?, weight.dims2()?);
    let (weight, _widened) = card.weight(weight)?;
    let (own, _narrowed) = card.narrowed(numbers(&g)?, rows * out, weight.precision)?;
    let dx = card.floats(rows * inputs)?;
    let factors = (Matrix::rows(own, out), Matrix::rows(weight, inputs));
    card.multiply(Size { m: rows, n: inputs, k: out }, 1.0, factors, 0.0, (card.f32(&dx), inputs))?;
    Ok(card.tensor(dx, (rows, inputs)))
}

/// Numbers of sixteen bits as f32.
pub(crate) fn widened(x: &Tensor) -> Result<Tensor> {
    let card = Card::of(x)?;
    let count = x.elem_count();
    let y = card.floats(count)?;
    if count > 0 {
        card.fill_rows(numbers(x)?, 1, count, (card.f32(&y), count), false)?;
    }
    Ok(card.tensor(y, x.shape()))
}
