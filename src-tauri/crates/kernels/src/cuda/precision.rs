//! The numbers that kernels and products on the card work with.

use candle_core::{DType, Result, bail, cuda_backend::cudarc::cublas::sys::cudaDataType};

use super::card::Arg;

/// A precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    Bf16,
    F16,
}

impl Precision {
    /// That of weights.
    pub fn of(dtype: DType) -> Result<Self> {
        match dtype {
            DType::F32 => Ok(Precision::F32),
            DType::BF16 => Ok(Precision::Bf16),
            DType::F16 => Ok(Precision::F16),
            other => bail!("only f32, bf16 and f16 are computed with, not {other:?}"),
        }
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        if self.is_narrow() { 2 } else { 4 }
    }

    /// Whether a number has sixteen bits.
    pub fn is_narrow(self) -> bool {
        self != Precision::F32
    }

    /// The end of the name of the kernel that works on such numbers.
    pub fn suffix(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// How the library of products calls it.
    pub fn of_products(self) -> cudaDataType {
        match self {
            Precision::F32 => cudaDataType::CUDA_R_32F,
            Precision::Bf16 => cudaDataType::CUDA_R_16BF,
            Precision::F16 => cudaDataType::CUDA_R_16F,
        }
    }
}

impl From<Precision> for Arg {
    /// The number of a kind in the kernels.
    fn from(precision: Precision) -> Self {
        Arg::Int(precision as i32)
    }
}
