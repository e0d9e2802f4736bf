//! How much memory this process has, measured by the system, or on the card it computes on by the driver; what is not asked here gives
//! nothing, never zero.

use types::TrainEvent;

/// The peak must have grown by this much to be told again.
const GROWTH: f64 = 1.05;

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resident {
    peak: u64,
    current: u64,
}

/// The most memory this process has had where it computes, in bytes.
pub fn peak() -> Option<u64> {
    used().map(|memory| memory.peak)
}

/// Of the card where a model is computed there, else of the machine.
fn used() -> Option<Resident> {
    #[cfg(feature = "cuda")]
    if let Some((peak, current)) = crate::device::card_memory() {
        return Some(Resident { peak, current });
    }
    resident()
}

/// Of all programs, those that the person works with are to stay when the machine runs out of memory. An engine can be started anew.
pub fn yield_first() {
    /// As much as half of the machine's memory counts: proc(5), `oom_score_adj`.
    #[cfg(target_os = "linux")]
    const EAGERNESS: &[u8] = b"500";
    #[cfg(target_os = "linux")]
    if let Ok(mut file) = std::fs::File::options().write(true).open("/proc/self/oom_score_adj") {
        // Where that is forbidden, the system chooses as it would have.
        std::io::Write::write_all(&mut file, EAGERNESS).ok();
    }
}

/// Tells when the peak has grown.
#[derive(Debug, Default)]
pub struct Watch {
    told: u64,
}

impl Watch {
    /// An event if this is the first look, or the peak has grown by more than 5 % since the last one.
    pub fn look(&mut self) -> Option<TrainEvent> {
        let now = used()?;
        if now.peak as f64 <= self.told as f64 * GROWTH {
            return None;
        }
        self.told = now.peak;
        Some(TrainEvent::Memory { peak_bytes: now.peak, current_bytes: now.current })
    }
}

#[cfg(target_os = "linux")]
fn resident() -> Option<Resident> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn resident() -> Option<Resident> {
    None
}

/// The lines `VmHWM` (peak) and `VmRSS` (now) of `/proc/<pid>/status`, which count in units of 1024 bytes: proc(5).
#[cfg(any(target_os = "linux", test))]
fn parse(status: &str) -> Option<Resident> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Resident { peak: bytes("VmHWM")?, current: bytes("VmRSS")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_of_the_system_become_bytes_and_nothing_is_made_up() {
        let status = "Name:\tmodelforge\nVmPeak:\t  900 kB\nVmHWM:\t    12 kB\nVmRSS:\t     7 kB\n";
        assert_eq!(parse(status), Some(Resident { peak: 12 << 10, current: 7 << 10 }));
        for broken in ["", "VmHWM:\t12 kB\n", "VmHWM:\tx kB\nVmRSS:\t7 kB\n", "VmHWM: 12 MB\nVmRSS: 7 kB\n"] {
            assert_eq!(parse(broken), None, "what is not told is absent: {broken:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_peak_is_told_once() {
        let mut watch = Watch::default();
        assert!(
            matches!(watch.look(), Some(TrainEvent::Memory { peak_bytes: 1.., .. })),
            "the first look tells"
        );
        watch.told *= 2;
        assert_eq!(watch.look(), None, "a peak that has not grown is not told again");
    }
}
