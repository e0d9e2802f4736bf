//! What failures on a card mean, and whether the driver is new enough.

use std::ffi::c_int;

use candle_core::{
    Error, Result, bail,
    cuda_backend::{
        CudaError, WrapErr,
        cudarc::{
            cublas::{result::CublasError, sys::cublasStatus_t},
            driver::{DriverError, sys},
        },
    },
};

use crate::CardFault;

/// The version of CUDA that kernels and libraries are made for, as drivers count it: 1000 · major + 10 · minor.
const VERSION: c_int = 13_000;

/// Whether the driver works, compiles our kernels and runs the libraries that are packed with them.
///
/// # Errors
/// It is too old; the version that it is for is named. It does not start, or finds no card.
#[allow(unsafe_code)]
pub(super) fn check_driver() -> Result<()> {
    let mut found = 0;
    // SAFETY: the place is valid.
    unsafe { sys::cuDriverGetVersion(&mut found) }.result().w()?;
    if found < VERSION {
        let name = |version: c_int| format!("{}.{}", version / 1000, version % 1000 / 10);
        bail!(
            "the NVIDIA driver is too old: it is for CUDA {}, and {} is needed; install a newer driver",
            name(found),
            name(VERSION)
        );
    }
    // SAFETY: it takes no place of ours, and can be called any number of times.
    unsafe { sys::cuInit(0) }.result().map_err(|DriverError(code)| Error::msg(not_started(code)))
}

/// Why a driver does not start, and what helps.
fn not_started(code: sys::cudaError_enum) -> String {
    match code {
        sys::cudaError_enum::CUDA_ERROR_NO_DEVICE => {
            "the NVIDIA driver finds no card that it can compute on".into()
        }
        sys::cudaError_enum::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the parts of the NVIDIA driver are of different versions, as after an update: restart the computer".into()
        }
        other => format!(
            "the NVIDIA driver does not start ({other:?}): restart the computer, or install the driver again"
        ),
    }
}

/// What an error says of the card; `None` where it is of another kind.
pub fn card_fault(error: &Error) -> Option<CardFault> {
    match error {
        Error::Cuda(inner) => match inner.downcast_ref::<CudaError>()? {
            CudaError::Cuda(error) | CudaError::Load { cuda: error, .. } => of_driver(error),
            CudaError::Cublas(CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED)) => {
                Some(CardFault::OutOfMemory)
            }
            // What a product finds that was broken before it.
            CudaError::Cublas(CublasError(
                cublasStatus_t::CUBLAS_STATUS_EXECUTION_FAILED | cublasStatus_t::CUBLAS_STATUS_INTERNAL_ERROR,
            )) => Some(CardFault::Lost),
            _ => None,
        },
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => {
            card_fault(inner)
        }
        _ => None,
    }
}

fn of_driver(DriverError(code): &DriverError) -> Option<CardFault> {
    use sys::cudaError_enum as e;
    match code {
        e::CUDA_ERROR_OUT_OF_MEMORY => Some(CardFault::OutOfMemory),
        e::CUDA_ERROR_DEVICE_UNAVAILABLE
        | e::CUDA_ERROR_NO_DEVICE
        | e::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | e::CUDA_ERROR_ECC_UNCORRECTABLE
        | e::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | e::CUDA_ERROR_ILLEGAL_ADDRESS
        | e::CUDA_ERROR_LAUNCH_TIMEOUT
        | e::CUDA_ERROR_HARDWARE_STACK_ERROR
        | e::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | e::CUDA_ERROR_MISALIGNED_ADDRESS
        | e::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | e::CUDA_ERROR_INVALID_PC
        | e::CUDA_ERROR_LAUNCH_FAILED
        | e::CUDA_ERROR_EXTERNAL_DEVICE
        | e::CUDA_ERROR_UNKNOWN => Some(CardFault::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: sys::cudaError_enum) -> Error {
        Err::<(), _>(DriverError(code)).w().unwrap_err()
    }

    #[test]
    fn a_want_of_memory_is_told_from_a_card_that_is_gone_however_it_is_wrapped() {
        use sys::cudaError_enum as e;
        for (code, fault) in [
            (e::CUDA_ERROR_OUT_OF_MEMORY, Some(CardFault::OutOfMemory)),
            (e::CUDA_ERROR_ILLEGAL_ADDRESS, Some(CardFault::Lost)),
            (e::CUDA_ERROR_ECC_UNCORRECTABLE, Some(CardFault::Lost)),
            (e::CUDA_ERROR_INVALID_VALUE, None),
        ] {
            assert_eq!(card_fault(&error(code)), fault, "{code:?}");
            assert_eq!(card_fault(&error(code).context("a layer").bt()), fault, "{code:?} within others");
        }
        let full = Err::<(), _>(CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED)).w().unwrap_err();
        assert_eq!(card_fault(&full), Some(CardFault::OutOfMemory));
        assert_eq!(card_fault(&Error::Msg("out of memory".into())), None, "words alone say nothing");
    }
}
