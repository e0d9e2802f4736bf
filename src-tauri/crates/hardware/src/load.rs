//! How busy this machine is at the moment.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::Serialize;
use sysinfo::{CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, RefreshKind, System};

use crate::{gpu, memory_bytes};

/// A look back over more time than this says nothing about the moment.
const MOMENT: Duration = Duration::from_secs(10);

/// How busy this machine is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Load {
    /// The share of all processors' time that was in use since the last look, 0 to 100.
    pub cpu_percent: f64,
    /// Memory in use, of the machine or its container.
    pub memory_used_bytes: u64,
    /// All memory of the machine or its container.
    pub memory_total_bytes: u64,
    /// GPUs that have memory of their own and whose driver tells.
    pub gpus: Vec<GpuLoad>,
}

/// How busy a GPU is. What its driver does not tell is null.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GpuLoad {
    /// Its number, in the order of the PCI bus; null for further parts of a GPU.
    pub index: Option<u32>,
    /// What it is named by, on any computer and after any change of GPUs.
    pub uuid: String,
    /// As the driver names it.
    pub name: String,
    /// The share of the last moments in which it computed, 0 to 100.
    pub load_percent: Option<u32>,
    /// Its memory in use, by all programs.
    pub memory_used_bytes: Option<u64>,
    /// All of its memory.
    pub memory_total_bytes: Option<u64>,
    /// Its temperature.
    pub temperature_celsius: Option<u32>,
    /// The power that it draws.
    pub power_watts: Option<f64>,
    /// The power that it may draw at most.
    pub power_limit_watts: Option<f64>,
    /// The processes that compute on it.
    pub pids: Option<Vec<u32>>,
    /// Whether the next run is computed on it.
    pub computes: bool,
}

/// Measures the load. It remembers the last look, since a processor's load is a difference between two.
#[derive(Debug, Default)]
pub struct LoadMeter(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    last: Option<Look>,
    gpus: gpu::Meter,
}

#[derive(Debug)]
struct Look {
    system: System,
    at: Instant,
}

impl LoadMeter {
    /// The load now. Waits a fraction of a second where the last look is too long ago to compare with.
    pub fn measure(&self) -> Load {
        // What a panic leaves behind is at worst an earlier look.
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = looks.last.take().filter(|look| look.at.elapsed() < MOMENT);
        looks.last = recent.or_else(Look::begin).map(Look::again);
        let cpu = looks.last.as_ref().map_or(0.0, |look| f64::from(look.system.global_cpu_usage()));
        let (all, free) = memory_bytes();
        Load {
            cpu_percent: cpu.clamp(0.0, 100.0),
            memory_used_bytes: all.saturating_sub(free),
            memory_total_bytes: all,
            gpus: looks.gpus.measure(),
        }
    }
}

impl Look {
    /// `None` where the system does not tell.
    fn begin() -> Option<Self> {
        let usage = CpuRefreshKind::nothing().with_usage();
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(usage)).ok()?;
        let look = Self { system, at: Instant::now() };
        thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
        Some(look)
    }

    /// The next look; the same one where too little time has passed for a difference.
    fn again(mut self) -> Self {
        if self.at.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL {
            self.system.refresh_cpu_usage();
            self.at = Instant::now();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_a_part_of_what_there_is() {
        let meter = LoadMeter::default();
        // A processor that computes meanwhile shows in the very first answer.
        let over = std::sync::atomic::AtomicBool::new(false);
        let loads = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let loads = [meter.measure(), meter.measure()];
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            loads
        });
        for load in &loads {
            assert!(load.cpu_percent > 0.0 && load.cpu_percent <= 100.0, "a busy processor shows: {load:?}");
            let (used, all) = (load.memory_used_bytes, load.memory_total_bytes);
            assert!(0 < used && used <= all, "memory in use is a part of all: {load:?}");
            for gpu in &load.gpus {
                assert!(gpu.memory_used_bytes <= gpu.memory_total_bytes, "and so it is on a GPU: {gpu:?}");
                assert!(gpu.load_percent.is_none_or(|percent| percent <= 100), "{gpu:?}");
            }
        }
    }
}
