//! The class of a machine, from the memory of its GPU and its own.

use types::Profile;

/// What counts as 8 GB of GPU memory: drivers keep some back.
const SOME_VRAM: f64 = 7.2;
/// What counts as 16 GB, for the same reason.
const MUCH: f64 = 15.2;

/// The class of a machine with `vram` GB on its GPU (0 without one) and `ram` GB.
pub fn of(vram: f64, ram: f64) -> Profile {
    match () {
        () if vram < SOME_VRAM => Profile::LowEnd,
        () if vram < MUCH && ram < MUCH => Profile::LowEnd,
        () if vram < MUCH || ram < MUCH => Profile::MidRange,
        () => Profile::HighEnd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_boundary_from_both_sides() {
        use Profile::{HighEnd, LowEnd, MidRange};
        for (vram, ram, want) in [
            (0.0, 0.0, LowEnd),
            (0.0, 512.0, LowEnd),
            (7.19, 15.2, LowEnd),
            (7.19, 512.0, LowEnd),
            (7.2, 15.19, LowEnd),
            (7.2, 15.2, MidRange),
            (15.19, 15.19, LowEnd),
            (15.19, 15.2, MidRange),
            (15.2, 15.19, MidRange),
            (15.2, 0.0, MidRange),
            (15.2, 15.2, HighEnd),
            (80.0, 512.0, HighEnd),
        ] {
            assert_eq!(of(vram, ram), want, "{vram} GB on the GPU, {ram} GB of memory");
        }
    }
}
