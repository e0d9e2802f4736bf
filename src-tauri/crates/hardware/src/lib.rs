//! What this machine has, the class it belongs to, the settings a run starts from on it, which models suit it, and what
//! a run will take of its memory and time.
//!
//! Nothing here is needed to train: an engine finds its device itself. A missing driver is the normal case of a
//! machine without a GPU and never an error.

mod card_memory;
mod cards;
mod catalogue;
mod disk;
mod encoder;
mod encoder_decoder;
mod error;
mod families;
mod gpu;
mod load;
mod memory;
mod nearest;
mod plan;
mod profile;
mod recommend;
mod settings;
mod shape;
mod time;

use std::{
    fs,
    path::{Path, absolute},
};

use schemars::JsonSchema;
use serde::Serialize;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};
use types::Profile;

pub use cards::{Card, CardProcess, Cards, Choice, NoCard, VISIBLE_VARIABLE, card, cards};
pub use catalogue::{Catalogue, CatalogueModel, catalogue};
pub use disk::{DiskEstimate, estimate_disk};
pub use encoder_decoder::EncoderShape;
pub use error::HardwareError;
pub use gpu::NO_GPU;
pub use load::{GpuLoad, Load, LoadMeter};
pub use memory::{Fit, MARGIN_PERCENT, MemoryEstimate, estimate_chat_memory, estimate_memory};
pub use nearest::{Nearest, nearest};
pub use plan::{FreeMemory, MemoryPlan};
pub use recommend::{PossibleModel, Recommendation, Situation, recommend};
pub use settings::Settings;
pub use shape::{LinearLayers, ModelShape};
pub use time::{TimeEstimate, Workload, estimate_time};

/// What this machine has. Sizes are in units of 2^30 bytes, one decimal.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Hardware {
    /// The name of the GPU that runs are computed on, or else of the first one; or `No GPU detected`.
    pub gpu_name: String,
    /// Its whole memory; 0 without one.
    pub gpu_memory_gb: f64,
    /// All memory that this process could use: what the machine or its container has.
    pub ram_gb: f64,
    /// Free space where the app's data lies.
    pub disk_space_gb: f64,
    /// Processor cores that this process may use.
    pub cpu_cores: usize,
    /// The newest CUDA version that the GPU's driver supports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<String>,
    /// Memory in bytes that a new process could take now; what the machine or its container has left.
    #[serde(skip)]
    pub free_memory: u64,
    /// The card that runs are computed on; none where the processor computes them.
    #[serde(skip)]
    pub card: Option<Card>,
    /// The class of machine.
    #[serde(skip)]
    pub profile: Profile,
    /// Whether bfloat16 is multiplied faster than 32-bit floats where runs are computed.
    #[serde(skip)]
    pub fast_bf16: bool,
}

impl Hardware {
    /// Looks at the machine. `home` is the folder whose disk counts, `card` what runs are computed on if not on the processor. A card that
    /// they are not computed on is told of, but makes no other class of machine.
    pub fn detect(home: &Path, card: Option<Card>) -> Self {
        let gpu = first_gpu(card.as_ref());
        let (ram, free_memory) = memory_bytes();
        let vram = gpu.as_ref().map_or(0, |gpu| gpu.memory_bytes);
        let used = gpu.as_ref().filter(|gpu| gpu.computes);
        Self {
            profile: profile::of(gib(used.map_or(0, |gpu| gpu.memory_bytes)), gib(ram)),
            fast_bf16: used.map_or_else(processor_multiplies_bf16, |gpu| gpu.fast_bf16),
            gpu_memory_gb: one_decimal(gib(vram)),
            ram_gb: one_decimal(gib(ram)),
            disk_space_gb: one_decimal(gib(free_disk(home).unwrap_or(0))),
            free_memory,
            cpu_cores: std::thread::available_parallelism().map_or(1, usize::from),
            cuda_version: gpu.as_ref().and_then(|gpu| gpu.cuda_version.clone()),
            gpu_name: gpu.map_or_else(|| NO_GPU.to_owned(), |gpu| gpu.name),
            card,
        }
    }

    /// What a run could take now. A card whose driver tells nothing of memory has the machine's.
    pub fn free(&self) -> FreeMemory {
        let card = self.card.as_ref().map(|card| card.memory_free_bytes.unwrap_or(self.free_memory));
        FreeMemory { machine: self.free_memory, card }
    }

    /// The settings that a run on this machine starts from.
    pub fn settings(&self) -> Settings {
        Settings::for_profile(self.profile, self.fast_bf16)
    }
}

/// A GPU, as [`Hardware`] tells of it.
struct Gpu {
    name: String,
    memory_bytes: u64,
    cuda_version: Option<String>,
    fast_bf16: bool,
    /// Whether runs are computed on it, or it belongs to the processor.
    computes: bool,
}

#[cfg(target_os = "macos")]
fn first_gpu(_: Option<&Card>) -> Option<Gpu> {
    let gpu::Gpu { name, memory_bytes, fast_bf16 } = gpu::detect()?;
    Some(Gpu { name, memory_bytes, cuda_version: None, fast_bf16, computes: true })
}

#[cfg(not(target_os = "macos"))]
fn first_gpu(card: Option<&Card>) -> Option<Gpu> {
    let cards = cards();
    let first = card.or(cards.visible.first())?;
    Some(Gpu {
        name: first.name.clone(),
        memory_bytes: first.memory_total_bytes.unwrap_or(0),
        fast_bf16: first.multiplies_bf16(),
        computes: card.is_some(),
        cuda_version: cards.cuda_version,
    })
}

/// Whether the processor has instructions for products of bfloat16 that the engine's kernels use.
fn processor_multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// All memory and the part of it that is free, or less where a container is given less. 0 where the system does not
/// tell.
fn memory_bytes() -> (u64, u64) {
    let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let Ok(system) = System::new_with_specifics(wanted) else { return (0, 0) };
    let (all, free) = (system.total_memory(), system.available_memory());
    match system.cgroup_limits().filter(|limits| limits.total_memory > 0) {
        // Cached files count as used in a container; they give way to a program that asks for memory.
        Some(limits) => {
            (limits.total_memory.min(all), limits.total_memory.saturating_sub(limits.rss).min(free))
        }
        None => (all, free),
    }
}

/// How many programs the system has ended since it started because memory ran out; `None` where it does not tell.
pub fn out_of_memory_kills() -> Option<u64> {
    // https://docs.kernel.org/admin-guide/cgroup-v2.html names the same count of one group; this one is of all.
    let counts =
        if cfg!(target_os = "linux") { fs::read_to_string("/proc/vmstat").ok()? } else { return None };
    counts.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Free space in bytes on the disk whose mount point is the deepest above `path`; `None` where the system does not tell.
pub fn free_disk(path: &Path) -> Option<u64> {
    let kind = DiskRefreshKind::nothing().with_storage();
    let disks = Disks::new_with_refreshed_list_specifics(kind).ok()?;
    let path = fs::canonicalize(path).or_else(|_| absolute(path)).unwrap_or_else(|_| path.to_owned());
    disks
        .iter()
        .filter(|disk| path.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().components().count())
        .map(|disk| disk.available_space())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn one_decimal(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_cores_and_a_disk() {
        let temp = std::env::temp_dir();
        let found = Hardware::detect(&temp, None);
        let free = gib(found.free_memory);
        assert!(free > 0.0 && free <= found.ram_gb + 0.1, "free memory is a part of all: {found:?}");
        assert!(found.cpu_cores >= 1 && found.ram_gb > 0.0 && found.disk_space_gb > 0.0, "{found:?}");
        let no_gpu = found.gpu_name == NO_GPU;
        assert!(!no_gpu || found.gpu_memory_gb == 0.0, "no GPU has no memory: {found:?}");
        let counts = cfg!(target_os = "macos") && !no_gpu;
        assert!(counts || found.profile == Profile::LowEnd, "the processor alone is low_end: {found:?}");
        assert_eq!(found.free().card, None, "no card was given");
    }
}
