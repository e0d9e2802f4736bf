//! The GPUs of this machine, asked of their driver: which there are, and how busy all are.

#[cfg(target_os = "macos")]
mod apple;
#[cfg(not(target_os = "macos"))]
mod nvidia;

#[cfg(target_os = "macos")]
pub(crate) use apple::{Meter, detect, listing};
#[cfg(not(target_os = "macos"))]
pub(crate) use nvidia::{Meter, listing};

/// The documented name where there is no GPU.
pub const NO_GPU: &str = "No GPU detected";

/// A GPU that shares the computer's memory.
#[cfg(target_os = "macos")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// As the driver names it.
    pub name: String,
    /// The part of the memory that it can use at full speed.
    pub memory_bytes: u64,
    /// Whether it computes in bfloat16 at full speed.
    pub fast_bf16: bool,
}
