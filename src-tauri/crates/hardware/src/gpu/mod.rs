//! The GPUs of this machine, asked of their driver: which the first one is, and how busy all are.

#[cfg(target_os = "macos")]
mod apple;
#[cfg(not(target_os = "macos"))]
mod nvidia;

#[cfg(target_os = "macos")]
pub(crate) use apple::Meter;
#[cfg(not(target_os = "macos"))]
pub(crate) use nvidia::Meter;

/// The documented name where there is no GPU.
pub const NO_GPU: &str = "No GPU detected";

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// As the driver names it.
    pub name: String,
    /// All of its memory; where it shares the computer's, the part it can use at full speed.
    pub memory_bytes: u64,
    /// The newest CUDA version that the driver supports, such as `12.6`.
    pub cuda_version: Option<String>,
    /// Whether it computes in bfloat16 at full speed.
    pub fast_bf16: bool,
}

/// The first GPU; `None` without one or without its driver.
pub(crate) fn detect() -> Option<Gpu> {
    #[cfg(target_os = "macos")]
    return apple::detect();
    #[cfg(not(target_os = "macos"))]
    return nvidia::detect();
}
