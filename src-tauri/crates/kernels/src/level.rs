//! Which instructions the fused kernels use: found out once, or forced by a variable.

use std::sync::OnceLock;

/// A set of instructions, from the least to the most capable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has: SSE2, or NEON with fused multiply-add on aarch64.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 that multiplies pairs of bf16.
    Avx512Bf16,
    /// Tiles of bf16 (Intel AMX), on Linux, which must let a process use them.
    Amx,
}

impl Level {
    /// The environment variable that forces a level, by the names of [`Level::ALL`], or [`COMPOSED`].
    pub const VARIABLE: &str = "MODELFORGE_KERNELS";

    /// Every level with its name.
    pub const ALL: &[(Level, &str)] = &[
        (Level::Portable, "portable"),
        (Level::Avx2, "avx2"),
        (Level::Avx512, "avx512"),
        (Level::Avx512Bf16, "avx512bf16"),
        (Level::Amx, "amx"),
    ];

    /// The levels that this machine has.
    pub fn available() -> Vec<Level> {
        Self::ALL.iter().map(|entry| entry.0).filter(|level| level.is_available()).collect()
    }

    /// The level in force: what [`Level::VARIABLE`] says if this machine has it, else the highest.
    pub fn current() -> Level {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let best = Self::available().into_iter().max().unwrap_or(Level::Portable);
            Self::forced().ok().flatten().unwrap_or(best)
        })
    }

    /// The level that [`Level::VARIABLE`] asks for.
    ///
    /// # Errors
    /// Its value names no level, or one that this machine lacks.
    pub fn forced() -> candle_core::Result<Option<Level>> {
        let Some(value) = std::env::var_os(Self::VARIABLE).filter(|value| value != COMPOSED) else {
            return Ok(None);
        };
        let available = Self::available();
        match Self::ALL.iter().find(|entry| value == entry.1) {
            Some((level, _)) if available.contains(level) => Ok(Some(*level)),
            _ => {
                let names: Vec<&str> = available.iter().map(|level| level.name()).collect();
                candle_core::bail!("{} must be one of {}, not {value:?}", Self::VARIABLE, names.join(", "))
            }
        }
    }

    /// Its name in [`Level::VARIABLE`].
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|entry| entry.0 == self).map_or("", |entry| entry.1)
    }

    /// Whether products of bf16 are computed as such; where not, bf16 is widened to f32 as it is packed.
    pub(crate) fn multiplies_bf16(self) -> bool {
        self >= Level::Avx512Bf16
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        let avx512 = || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        match self {
            Level::Portable => true,
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Level::Avx512 => Level::Avx2.is_available() && avx512(),
            Level::Avx512Bf16 => Level::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            Level::Amx => Level::Avx512Bf16.is_available() && crate::matmul::amx::is_available(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Level::Portable
    }
}

/// What [`Level::VARIABLE`] says where the operations are to be composed of candle's, as they are on devices without kernels of ours.
pub const COMPOSED: &str = "composed";

/// Whether they are on the processor.
pub(crate) fn composed() -> bool {
    static ASKED: OnceLock<bool> = OnceLock::new();
    *ASKED.get_or_init(|| std::env::var_os(Level::VARIABLE).is_some_and(|value| value == COMPOSED))
}

/// Defines functions that are compiled once for each width of vectors and run in the widest that the level allows. The
/// bodies are plain loops which the compiler vectorises.
macro_rules! vectorised {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, unsafe_code)]
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn wide($($arg: $type),*) $(-> $result)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn narrow($($arg: $type),*) $(-> $result)? {
                    body($($arg),*)
                }
                match $crate::level::Level::current() {
                    $crate::level::Level::Portable => body($($arg),*),
                    // SAFETY: the level in force is one whose instructions the processor has.
                    $crate::level::Level::Avx2 => unsafe { narrow($($arg),*) },
                    // SAFETY: as above; all further levels include AVX-512 F, BW, DQ and VL.
                    _ => unsafe { wide($($arg),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body($($arg),*)
        }
    )*};
}
pub(crate) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the tests of this crate's modules once for each level.
    #[test]
    fn every_level_of_this_machine_passes() {
        if std::env::var_os(Level::VARIABLE).is_some() {
            let forced = Level::forced().unwrap();
            assert_eq!(Some(Level::current()), forced, "the variable must be obeyed");
            return;
        }
        for level in Level::available() {
            let program = std::env::current_exe().unwrap();
            let output =
                std::process::Command::new(program).env(Level::VARIABLE, level.name()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success(),
                "all of these tests must pass at level {}:\n{text}",
                level.name()
            );
        }
    }
}
