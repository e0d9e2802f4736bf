//! Products of bf16 tiles on Intel's AMX unit.
//!
//! The instructions are written out because the compiler offers no functions for them yet. A tile is 16 rows of 64
//! bytes; `tdpbf16ps` adds the product of 16 rows × 32 values with 32 × 16 to 16 × 16 sums.

/// Whether this process may use the unit; asks the system for it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
pub(crate) fn is_available() -> bool {
    use std::{
        arch::{asm, x86_64::__cpuid_count},
        sync::OnceLock,
    };
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        // Leaf 7: AMX-BF16 is bit 22 and AMX-TILE bit 24 of edx (Intel SDM, volume 2, CPUID).
        if std::arch::x86_64::__cpuid(0).eax < 7
            || __cpuid_count(7, 0).edx & (1 << 22 | 1 << 24) != 1 << 22 | 1 << 24
        {
            return false;
        }
        const SYS_ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XFEATURE_XTILEDATA: i64 = 18;
        let result: i64;
        // SAFETY: the system call reads and writes no memory of this process; the kernel changes rax, rcx and r11 only.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") SYS_ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    })
}

/// Other systems give no leave to use it.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
pub(crate) fn is_available() -> bool {
    false
}

/// The unit, set up on this thread until dropped.
#[cfg(target_arch = "x86_64")]
pub(super) struct Tiles(());

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod tiles {
    use std::arch::asm;

    use super::Tiles;
    use crate::matmul::micro::{BLOCK, PANEL, Segment, Tile};

    /// The operand of `ldtilecfg`: palette 1, eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    const CONFIGURATION: Configuration = {
        let mut bytes = [0u8; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Configuration(bytes)
    };

    impl Tiles {
        /// Sets the unit up; the level in force must be [`Level::Amx`](crate::Level::Amx).
        pub(in crate::matmul) fn new() -> Self {
            // SAFETY: the level says that the processor has the unit and that the system granted it; the operand is 64
            // readable bytes. The compiler itself never uses tile registers.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
            Tiles(())
        }

        /// The sums of one or two row tiles over 32 columns.
        pub(in crate::matmul) fn multiply(&self, segments: &[Segment], tiles: usize, out: &mut Tile) {
            let one = tiles == 1;
            // SAFETY: `self` shows that the unit is set up. Tiles 0 to 3 hold sums, all others are loaded before use;
            // the compiler itself never uses tile registers, so they keep their values from block to block.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem)
                )
            };
            for segment in segments.iter().filter(|s| s.blocks > 0) {
                let last = if one { 0 } else { segment.a_tile };
                assert!(
                    last + segment.blocks * BLOCK * BLOCK <= segment.a.len()
                        && segment.blocks * BLOCK * PANEL <= segment.b.len(),
                    "the operands must hold all blocks of a product"
                );
                // SAFETY: each round reads 1024 bytes at `a`, and at `a` + the distance of the second tile, and 2048 at
                // `b`, then moves on by as much; the assertion keeps `blocks` such rounds inside the slices.
                unsafe {
                    if one {
                        asm!(
                            "2:",
                            "tileloadd tmm4, [{a} + {row}]",
                            "tileloadd tmm6, [{b} + 2*{row}]",
                            "tdpbf16ps tmm0, tmm4, tmm6",
                            "tileloadd tmm7, [{b} + 2*{row} + 64]",
                            "tdpbf16ps tmm1, tmm4, tmm7",
                            "add {a}, 1024",
                            "add {b}, 2048",
                            "dec {n}",
                            "jnz 2b",
                            a = inout(reg) segment.a.as_ptr() => _,
                            b = inout(reg) segment.b.as_ptr() => _,
                            n = inout(reg) segment.blocks => _,
                            row = in(reg) 64usize,
                            options(nostack, readonly),
                        );
                    } else {
                        asm!(
                            "2:",
                            "tileloadd tmm4, [{a} + {row}]",
                            "tileloadd tmm6, [{b} + 2*{row}]",
                            "tdpbf16ps tmm0, tmm4, tmm6",
                            "tileloadd tmm7, [{b} + 2*{row} + 64]",
                            "tdpbf16ps tmm1, tmm4, tmm7",
                            "tileloadd tmm5, [{c} + {row}]",
                            "tdpbf16ps tmm2, tmm5, tmm6",
                            "tdpbf16ps tmm3, tmm5, tmm7",
                            "add {a}, 1024",
                            "add {c}, 1024",
                            "add {b}, 2048",
                            "dec {n}",
                            "jnz 2b",
                            a = inout(reg) segment.a.as_ptr() => _,
                            c = inout(reg) segment.a.as_ptr().add(segment.a_tile) => _,
                            b = inout(reg) segment.b.as_ptr() => _,
                            n = inout(reg) segment.blocks => _,
                            row = in(reg) 64usize,
                            options(nostack, readonly),
                        );
                    }
                }
            }
            // SAFETY: four tiles of 16 rows of 64 bytes, 128 bytes apart, are the 4096 bytes of `out`.
            unsafe {
                asm!(
                    "tilestored [{o} + {row}], tmm0",
                    "tilestored [{o} + {row} + 64], tmm1",
                    "tilestored [{o} + {row} + 2048], tmm2",
                    "tilestored [{o} + {row} + 2112], tmm3",
                    o = in(reg) out.0.as_mut_ptr(),
                    row = in(reg) 128usize,
                    options(nostack),
                );
            }
        }
    }

    impl Drop for Tiles {
        fn drop(&mut self) {
            // SAFETY: gives the unit back, so that a switch of threads need not save its registers.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}
