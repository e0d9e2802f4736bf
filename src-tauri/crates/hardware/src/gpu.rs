//! The first NVIDIA GPU, asked of its driver.

use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor, error::NvmlError};

/// The documented name where there is no GPU.
pub const NO_GPU: &str = "No GPU detected";

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// As the driver names it.
    pub name: String,
    /// All of its memory.
    pub memory_bytes: u64,
    /// The newest CUDA version that the driver supports, such as `12.6`.
    pub cuda_version: Option<String>,
    /// Whether it computes in bfloat16 at full speed: compute capability 8.0 (Ampere) and later.
    pub fast_bf16: bool,
}

/// The first GPU; `None` without one or without its driver.
pub(crate) fn detect() -> Option<Gpu> {
    ask().ok()
}

fn ask() -> Result<Gpu, NvmlError> {
    let nvml = Nvml::init()?;
    let device = nvml.device_by_index(0)?;
    let version = nvml.sys_cuda_driver_version().ok();
    Ok(Gpu {
        name: device.name()?,
        memory_bytes: device.memory_info()?.total,
        cuda_version: version
            .map(|v| format!("{}.{}", cuda_driver_version_major(v), cuda_driver_version_minor(v))),
        fast_bf16: device.cuda_compute_capability().is_ok_and(|capability| capability.major >= 8),
    })
}
