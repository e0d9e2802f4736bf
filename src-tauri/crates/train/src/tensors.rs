//! The values of f32 tensors where they are, on the CPU, without a copy; those of tensors elsewhere by way of one.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail};

/// Runs `f` on the values of a tensor, row-major. One that is not f32 or not contiguous is made so first.
pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let tensor = tensor.to_device(&Device::Cpu)?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("the values of a tensor could not be reached") };
    Ok(f(&storage.as_slice::<f32>()?[range(layout)?]))
}

/// Runs `f` on the values of a variable, row-major, which it may change. Everything that shares them sees the change: no
/// tape that a gradient is still to be taken of may be alive.
pub(crate) fn change<R>(var: &Var, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    if !var.device().is_cpu() {
        let mut values = var.flatten_all()?.to_vec1::<f32>()?;
        let result = f(&mut values);
        var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        return Ok(result);
    }
    let change = Change { f: Cell::new(Some(f)), result: Cell::new(None) };
    var.inplace_op1(&change)?;
    match change.result.into_inner() {
        Some(result) => Ok(result),
        None => bail!("the values of a variable could not be reached"),
    }
}

/// A function as candle's operation, which is given by shared reference and called once.
struct Change<F, R> {
    f: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<R, F: FnOnce(&mut [f32]) -> R> InplaceOp1 for Change<F, R> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { bail!("only f32 variables are trained") };
        if let Some(f) = self.f.take() {
            self.result.set(Some(f(&mut values[range(layout)?])));
        }
        Ok(())
    }
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(from..to),
        None => bail!("a contiguous tensor is expected here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_row_by_row_whatever_the_layout_and_type() {
        let tensor = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu).unwrap();
        let values = |t: &Tensor| read(t, <[f32]>::to_vec).unwrap();
        assert_eq!(values(&tensor.narrow(0, 1, 1).unwrap()), [4.0, 5.0, 6.0], "a part of a tensor");
        assert_eq!(values(&tensor.t().unwrap()), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0], "transposed");
        assert_eq!(values(&tensor.to_dtype(DType::BF16).unwrap()), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "widened");
    }

    #[test]
    fn a_variable_is_changed_in_place() {
        let var = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let shared = var.as_detached_tensor();
        let sum = change(&var, |values| {
            values.iter_mut().for_each(|v| *v *= 2.0);
            values.iter().sum::<f32>()
        });
        assert_eq!(sum.unwrap(), 20.0);
        assert_eq!(read(&shared, <[f32]>::to_vec).unwrap(), [2.0, 4.0, 6.0, 8.0], "what shares it sees it");
        let half = Var::zeros(2, DType::F16, &Device::Cpu).unwrap();
        assert!(change(&half, |_| ()).is_err(), "an error, not a conversion that would be lost");
    }
}
