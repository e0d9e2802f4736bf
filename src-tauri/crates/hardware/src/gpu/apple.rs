//! Apple's GPUs, asked through Metal. They share the computer's memory.

use objc2_metal::{MTLCopyAllDevices, MTLDevice, MTLGPUFamily};

use super::Gpu;

/// The GPU of Apple silicon; those of older Macs are not counted.
pub(super) fn detect() -> Option<Gpu> {
    // M1 and later.
    let device =
        MTLCopyAllDevices().firstObject().filter(|device| device.supportsFamily(MTLGPUFamily::Apple7))?;
    Some(Gpu {
        name: device.name().to_string(),
        memory_bytes: device.recommendedMaxWorkingSetSize(),
        cuda_version: None,
        // M2 and later.
        fast_bf16: device.supportsFamily(MTLGPUFamily::Apple8),
    })
}
