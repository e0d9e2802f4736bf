//! NVIDIA's GPUs, asked through NVML, which comes with the driver.

use nvml_wrapper::{
    Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor,
    enum_wrappers::device::TemperatureSensor, error::NvmlError,
};

use super::Gpu;
use crate::GpuLoad;

/// Asks how busy the GPUs are. Opened on first use and kept open: a driver that nobody uses may switch its GPUs off, and
/// switching one on takes a second.
#[derive(Debug, Default)]
pub(crate) struct Meter(Option<Option<Nvml>>);

impl Meter {
    /// Every GPU that answers; none without a driver.
    pub fn measure(&mut self) -> Vec<GpuLoad> {
        let Some(nvml) = self.0.get_or_insert_with(|| Nvml::init().ok()) else { return Vec::new() };
        let devices = 0..nvml.device_count().unwrap_or(0);
        devices.filter_map(|index| load(&nvml.device_by_index(index).ok()?).ok()).collect()
    }
}

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

fn load(device: &Device<'_>) -> Result<GpuLoad, NvmlError> {
    let memory = device.memory_info()?;
    Ok(GpuLoad {
        name: device.name()?,
        load_percent: device.utilization_rates().ok().map(|rates| rates.gpu.min(100)),
        memory_used_bytes: memory.used.min(memory.total),
        memory_total_bytes: memory.total,
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
    })
}
