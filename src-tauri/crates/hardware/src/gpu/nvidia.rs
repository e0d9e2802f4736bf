//! NVIDIA's GPUs, asked through NVML, which comes with the driver.

use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor, error::NvmlError};

use super::Gpu;

/// The first GPU; `None` without one or without its driver.
pub(super) fn detect() -> Option<Gpu> {
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
        // Compute capability 8.0 (Ampere) and later.
        fast_bf16: device.cuda_compute_capability().is_ok_and(|capability| capability.major >= 8),
    })
}
