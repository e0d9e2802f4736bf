//! Apple's GPUs, asked through Metal. They share the computer's memory.

use objc2_metal::{MTLCopyAllDevices, MTLDevice, MTLGPUFamily};

use super::Gpu;
use crate::{
    GpuLoad,
    cards::{Listing, NoCard},
};

/// Metal tells no load, and the memory is the computer's.
#[derive(Debug, Default)]
pub(crate) struct Meter;

impl Meter {
    /// Nothing: what can be told of these GPUs is told of the computer.
    pub fn measure(&mut self) -> Vec<GpuLoad> {
        Vec::new()
    }
}

/// There are no cards by NVIDIA.
pub(crate) fn listing() -> Result<Listing, NoCard> {
    Err(NoCard::NoDriver)
}

/// The GPU of Apple silicon; those of older Macs are not counted.
pub(crate) fn detect() -> Option<Gpu> {
    // M1 and later.
    let device =
        MTLCopyAllDevices().firstObject().filter(|device| device.supportsFamily(MTLGPUFamily::Apple7))?;
    Some(Gpu {
        name: device.name().to_string(),
        memory_bytes: device.recommendedMaxWorkingSetSize(),
        // M2 and later.
        fast_bf16: device.supportsFamily(MTLGPUFamily::Apple8),
    })
}
