//! Operations composed of candle's, for devices that have no kernels of ours: all of them on Apple's GPUs, and those that have
//! no kernel for NVIDIA cards there.
//!
//! Backward passes are written out, of candle's operations too, and one operation each on its tape. Left to the tape, every
//! intermediate result would be kept, and operands that are frozen would get gradients that nobody asked for. All is
//! computed in f32 whatever the tensors hold, but products, which are of the numbers as they are where both sides hold the same.
//! Nothing here is infinite on the way: Apple's compiler takes numbers for finite ones.

mod activation;
mod attention;
mod given;
mod head;
mod linear;
mod norm;
mod rope;

use candle_core::{DType, Device, Result, Tensor};

pub(crate) use self::{
    activation::{dropout, gated, gelu},
    attention::{Scores, Seen, attend, pick, softmax},
    given::given,
    head::{log_probs, logits, loss},
    linear::{OnDevice, frozen_linear, product},
    norm::{layer_norm, rms_norm},
    rope::rope,
};
use crate::level;

/// Whether an operation on `x` is to be composed; `on_cards` tells whether there is a kernel of ours for NVIDIA cards.
pub(crate) fn wanted(x: &Tensor, on_cards: bool) -> bool {
    match x.device() {
        Device::Cpu => level::composed(),
        Device::Cuda(_) => !on_cards,
        Device::Metal(_) => true,
    }
}

/// Whether the fused operations are computed on a device.
pub fn are_fused(device: &Device) -> bool {
    match device {
        Device::Cpu => !level::composed(),
        Device::Cuda(_) => true,
        Device::Metal(_) => false,
    }
}

/// The same numbers in another dtype, as no operand of anything. On NVIDIA cards candle converts no bf16 in a program that is built for
/// all of them, so that what has sixteen bits there is widened by a kernel of ours.
pub fn converted(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let x = x.detach();
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && x.dtype() != DType::F32 && x.dtype() != dtype {
        return crate::cuda::widened(&x)?.to_dtype(dtype);
    }
    x.to_dtype(dtype)
}

/// In f32, and no operand of anything.
fn wide(x: &Tensor) -> Result<Tensor> {
    converted(x, DType::F32)
}
