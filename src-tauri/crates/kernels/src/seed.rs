//! The start of a backward pass from a gradient that is already known.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::composed;

/// A scalar whose backward pass gives `y` the gradient `gradient`: `seed(&y, &g)?.backward()` is the product of `g`
/// with the Jacobian of everything `y` was computed from. The scalar's value is 0 and means nothing.
///
/// This is what computing a layer again in the backward pass needs (Chen et al. 2016, arXiv:1604.06174).
pub fn seed(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if y.shape() != gradient.shape() || y.dtype() != gradient.dtype() {
        bail!("a gradient {:?} cannot seed a tensor {:?}", gradient.shape(), y.shape());
    }
    if composed::wanted(y, true) {
        let gradient = gradient.detach();
        let nothing = Tensor::zeros((), DType::F32, y.device())?;
        return composed::given("seed", &[y], nothing, move |_, _, _| Ok(vec![Some(gradient.clone())]));
    }
    y.apply_op1(Seed { gradient: gradient.detach() })
}

struct Seed {
    gradient: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _storage: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        _layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::seed(storage)
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, _grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}
