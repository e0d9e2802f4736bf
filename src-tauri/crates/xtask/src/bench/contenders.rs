//! Who is measured: our providers and the peers, in every precision, one row each.

use std::fmt;

use types::Provider;

use Program::{Nf4, Ours, Torch};

/// A program and how it is asked to compute.
pub struct Contender {
    pub program: Program,
    pub checkpointing: bool,
    pub instructions: Instructions,
}

pub enum Program {
    /// Our engine.
    Ours { provider: Provider, bf16: bool },
    /// Our engine on a base in NF4 with nested scales, computing in bf16.
    Nf4,
    /// PyTorch with transformers and PEFT: `f32`, `bf16` (weights) or `autocast` (f32 weights, bf16 products).
    Torch { mode: &'static str },
}

/// What a program may use of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    All,
    /// All but Intel's matrix tiles (AMX), which few processors have.
    NoTiles,
    Avx2,
}

impl Instructions {
    /// Variables that hold a program to them: ours, ATen's, oneDNN's and MKL's.
    pub fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Instructions::All => &[],
            Instructions::NoTiles => &[("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")],
            Instructions::Avx2 => &[
                ("MODELFORGE_KERNELS", "avx2"),
                ("ATEN_CPU_CAPABILITY", "avx2"),
                ("ONEDNN_MAX_CPU_ISA", "AVX2"),
                ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
            ],
        }
    }
}

const REFERENCE: Provider = Provider::Huggingface;
const FUSED: Provider = Provider::Unsloth;

const fn row(program: Program) -> Contender {
    Contender { program, checkpointing: false, instructions: Instructions::All }
}
const fn checkpointed(program: Program) -> Contender {
    Contender { checkpointing: true, ..row(program) }
}
const fn held_to(instructions: Instructions, program: Program) -> Contender {
    Contender { instructions, ..row(program) }
}

#[rustfmt::skip]
pub static CONTENDERS: &[Contender] = &[
    row(Torch { mode: "f32" }),
    row(Torch { mode: "bf16" }),
    row(Torch { mode: "autocast" }),
    row(Ours { provider: REFERENCE, bf16: false }),
    row(Ours { provider: REFERENCE, bf16: true }),
    row(Ours { provider: FUSED, bf16: false }),
    row(Ours { provider: FUSED, bf16: true }),
    row(Nf4),
    checkpointed(Torch { mode: "f32" }),
    checkpointed(Torch { mode: "bf16" }),
    checkpointed(Torch { mode: "autocast" }),
    checkpointed(Ours { provider: REFERENCE, bf16: false }),
    checkpointed(Ours { provider: REFERENCE, bf16: true }),
    checkpointed(Ours { provider: FUSED, bf16: false }),
    checkpointed(Ours { provider: FUSED, bf16: true }),
    checkpointed(Nf4),
    held_to(Instructions::NoTiles, Torch { mode: "bf16" }),
    held_to(Instructions::NoTiles, Torch { mode: "autocast" }),
    // PyTorch has no products in bf16 without AVX-512, only a loop that is far slower than f32.
    held_to(Instructions::Avx2, Torch { mode: "f32" }),
    held_to(Instructions::Avx2, Ours { provider: FUSED, bf16: false }),
    held_to(Instructions::Avx2, Ours { provider: FUSED, bf16: true }),
];

impl fmt::Display for Contender {
    /// Such as `fused-bf16-checkpointed` or `torch-f32-avx2`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (who, precision) = match self.program {
            Torch { mode } => ("torch", mode),
            Ours { provider: REFERENCE, bf16 } => ("reference", if bf16 { "bf16" } else { "f32" }),
            Ours { provider: FUSED, bf16 } => ("fused", if bf16 { "bf16" } else { "f32" }),
            Nf4 => ("fused", "nf4"),
        };
        let checkpointed = if self.checkpointing { "-checkpointed" } else { "" };
        let held = match self.instructions {
            Instructions::All => "",
            Instructions::NoTiles => "-notiles",
            Instructions::Avx2 => "-avx2",
        };
        write!(f, "{who}-{precision}{checkpointed}{held}")
    }
}

impl Contender {
    /// Whether this is the peer that another's time is divided by: PyTorch in `mode`, as it is checkpointed and held to
    /// instructions.
    pub fn is_peer_of(&self, other: &Contender, mode: &str) -> bool {
        let same = self.checkpointing == other.checkpointing && self.instructions == other.instructions;
        same && matches!(self.program, Torch { mode: own } if own == mode)
    }

    /// Whether this is one of the peers that peak memory is divided by: without checkpointing, on the whole processor.
    pub fn is_memory_peer(&self) -> bool {
        let plain = !self.checkpointing && self.instructions == Instructions::All;
        plain && matches!(self.program, Torch { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_is_there_once() {
        let names: Vec<String> = CONTENDERS.iter().map(ToString::to_string).collect();
        for name in &names {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
        assert!(names.iter().any(|name| name == "fused-bf16-checkpointed"), "{names:?}");
        assert!(names.iter().any(|name| name == "fused-nf4-checkpointed"), "{names:?}");
        assert!(names.iter().any(|name| name == "torch-f32-avx2"), "{names:?}");
    }

    #[test]
    fn every_contender_has_a_peer_in_f32_or_autocast() {
        for contender in CONTENDERS {
            let peers = ["f32", "autocast"]
                .map(|mode| CONTENDERS.iter().filter(|peer| peer.is_peer_of(contender, mode)).count());
            assert!(matches!(peers, [1, 0] | [0, 1] | [1, 1]), "{contender} has peers {peers:?}");
        }
        assert_eq!(CONTENDERS.iter().filter(|c| c.is_memory_peer()).count(), 3, "f32, bf16 and autocast");
    }
}
