//! How much of the machine other programs use: what is measured beside them is rough.

use std::{fs, thread, time::Duration};

use crate::process::say;

/// How long is looked between two turns, when nothing of ours runs.
const LOOK: Duration = Duration::from_millis(300);

/// Above this share of the processors, a warning is due.
const TOLERATED: f64 = 0.1;

/// The largest share of the processors that was found in use; nothing where the system does not tell.
#[derive(Debug, Default, Clone, Copy)]
pub struct Busy(pub Option<f64>);

impl Busy {
    /// Looks once.
    pub fn look(&mut self) {
        let read = || processor_times(&fs::read_to_string("/proc/stat").ok()?);
        let Some(before) = read() else { return };
        thread::sleep(LOOK);
        let now = read().and_then(|after| share(before, after));
        self.0 = self.0.into_iter().chain(now).reduce(f64::max);
    }

    /// Says so if it was too much.
    pub fn warn(self) {
        if let Some(share) = self.0.filter(|&share| share > TOLERATED) {
            let percent = 100.0 * share;
            say(&format!(
                "Other programs used up to {percent:.0} % of the processors: these times are rough."
            ));
        }
    }
}

/// Ticks idle and in all, of all processors since the start: the first line of proc(5)'s `stat`.
fn processor_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // user, nice, system, idle, waiting for a disk, two kinds of interrupts, stolen; guests are in user already.
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum()))
}

fn share(before: (u64, u64), after: (u64, u64)) -> Option<f64> {
    let (idle, all) = (after.0.checked_sub(before.0)?, after.1.checked_sub(before.1)?);
    (all > 0).then(|| 1.0 - idle as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_idle_is_in_use() {
        let before = processor_times("cpu  10 0 10 70 10 0 0 0 5 5\ncpu0 1 2 3\n").unwrap();
        assert_eq!(before, (80, 100), "a guest's time is not counted twice");
        let after = processor_times("cpu  70 0 10 110 10 0 0 0 9 9\n").unwrap();
        assert_eq!(share(before, after), Some(0.6), "60 of 100 ticks");
        assert_eq!(share(before, before), None, "no time has passed");
        assert_eq!(processor_times(""), None);
    }
}
