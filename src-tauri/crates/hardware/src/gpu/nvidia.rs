//! NVIDIA's GPUs, asked through NVML, which comes with the driver.

use nvml_wrapper::{
    Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor,
    enum_wrappers::device::TemperatureSensor, enums::device::UsedGpuMemory, error::NvmlError,
};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::{
    GpuLoad,
    cards::{Card, CardProcess, Listing, NoCard},
};

/// Asks how busy the GPUs are. Opened on first use and kept open: a driver that nobody uses may switch its GPUs off, and
/// switching one on takes a second.
#[derive(Debug, Default)]
pub(crate) struct Meter(Option<Option<Nvml>>);

impl Meter {
    /// Every GPU that answers; none without a driver.
    pub fn measure(&mut self) -> Vec<GpuLoad> {
        let Some(nvml) = self.0.get_or_insert_with(|| Nvml::init().ok()) else { return Vec::new() };
        each(nvml).into_iter().filter_map(|part| load(&part).ok()).collect()
    }
}

/// What there is; a driver that does not work is told apart from none.
pub(crate) fn listing() -> Result<Listing, NoCard> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded) => return Err(NoCard::NoDriver),
        Err(error) => return Err(NoCard::Silent(error.to_string())),
    };
    let version = nvml.sys_cuda_driver_version().ok();
    let cards = each(&nvml).into_iter().filter_map(|part| card(&part).ok()).collect();
    Ok(Listing {
        driver_version: nvml.sys_driver_version().ok(),
        cuda_version: version
            .map(|v| format!("{}.{}", cuda_driver_version_major(v), cuda_driver_version_minor(v))),
        cards,
    })
}

/// A card, or a part of one where it is divided.
struct Part<'a> {
    /// None of parts but the first: CUDA knows that by the number of the card.
    index: Option<u32>,
    own: Device<'a>,
    /// The whole card, which tells what its parts do not.
    whole: Device<'a>,
}

/// All cards, the parts of one that is divided in its place.
fn each(nvml: &Nvml) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    for index in 0..nvml.device_count().unwrap_or(0) {
        let again = || nvml.device_by_index(index);
        let Ok(whole) = again() else { continue };
        let divided = whole.mig_mode().is_ok_and(|mode| mode.current != 0);
        let most = if divided { whole.mig_device_count().unwrap_or(0) } else { 0 };
        let mut number = Some(index);
        // Between the numbers in use there are free ones.
        for own in (0..most).filter_map(|part| whole.mig_device_by_index(part).ok()) {
            if let Ok(whole) = again() {
                found.push(Part { index: number.take(), own, whole });
            }
        }
        if let (false, Ok(own)) = (divided, again()) {
            found.push(Part { index: number, own, whole });
        }
    }
    found
}

fn card(Part { index, own, whole }: &Part<'_>) -> Result<Card, NvmlError> {
    let memory = own.memory_info().ok();
    let capability = whole.cuda_compute_capability().ok();
    let capability = capability.and_then(|c| Some((c.major.try_into().ok()?, c.minor.try_into().ok()?)));
    Ok(Card {
        index: *index,
        uuid: own.uuid()?,
        name: own.name()?,
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        memory_free_bytes: memory.as_ref().map(|memory| memory.free),
        compute_capability: capability.map(|(major, minor): (u32, u32)| format!("{major}.{minor}")),
        processes: processes(own),
        problem: None,
        capability,
    })
}

fn processes(device: &Device<'_>) -> Option<Vec<CardProcess>> {
    let mut found: Vec<CardProcess> = device
        .running_compute_processes()
        .ok()?
        .into_iter()
        .map(|process| CardProcess {
            pid: process.pid,
            name: None,
            memory_bytes: match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            },
        })
        .collect();
    let pids: Vec<Pid> = found.iter().map(|process| Pid::from_u32(process.pid)).collect();
    if let Ok(mut system) = System::new_with_specifics(RefreshKind::nothing()) {
        let wanted = ProcessRefreshKind::nothing();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, wanted);
        for (process, pid) in found.iter_mut().zip(&pids) {
            let name = system.process(*pid).map(|process| process.name().to_string_lossy().into_owned());
            process.name = name.filter(|name| !name.is_empty());
        }
    }
    Some(found)
}

fn load(Part { index, own, whole }: &Part<'_>) -> Result<GpuLoad, NvmlError> {
    let memory = own.memory_info().ok();
    let watts = |milliwatts: u32| f64::from(milliwatts / 100) / 10.0;
    let pids = own.running_compute_processes().ok();
    Ok(GpuLoad {
        index: *index,
        uuid: own.uuid()?,
        name: own.name()?,
        load_percent: own.utilization_rates().ok().map(|rates| rates.gpu.min(100)),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used.min(memory.total)),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        temperature_celsius: whole.temperature(TemperatureSensor::Gpu).ok(),
        power_watts: whole.power_usage().ok().map(watts),
        power_limit_watts: whole.enforced_power_limit().ok().map(watts),
        pids: pids.map(|all| all.into_iter().map(|process| process.pid).collect()),
        computes: false,
    })
}
