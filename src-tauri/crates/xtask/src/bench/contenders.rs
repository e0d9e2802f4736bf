//! Who is measured: our providers and the peers, in every precision, one row each.

use types::Provider;

use super::Named;

use Program::{Ours, Torch};

/// A program and how it is asked to compute.
pub struct Contender {
    pub name: &'static str,
    pub program: Program,
    pub checkpointing: bool,
    pub instructions: Instructions,
}

pub enum Program {
    /// Our engine.
    Ours { provider: Provider, bf16: bool },
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
                ("MODELFORGE_ISA", "avx2"),
                ("ATEN_CPU_CAPABILITY", "avx2"),
                ("ONEDNN_MAX_CPU_ISA", "AVX2"),
                ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
            ],
        }
    }
}

const REFERENCE: Provider = Provider::Huggingface;
const FUSED: Provider = Provider::Unsloth;

const fn row(name: &'static str, program: Program) -> Contender {
    Contender { name, program, checkpointing: false, instructions: Instructions::All }
}
const fn checkpointed(name: &'static str, program: Program) -> Contender {
    Contender { checkpointing: true, ..row(name, program) }
}
const fn held_to(instructions: Instructions, name: &'static str, program: Program) -> Contender {
    Contender { instructions, ..row(name, program) }
}

#[rustfmt::skip]
pub const CONTENDERS: &[Contender] = &[
    row("torch-f32", Torch { mode: "f32" }),
    row("torch-bf16", Torch { mode: "bf16" }),
    row("torch-autocast", Torch { mode: "autocast" }),
    row("reference-f32", Ours { provider: REFERENCE, bf16: false }),
    row("reference-bf16", Ours { provider: REFERENCE, bf16: true }),
    row("fused-f32", Ours { provider: FUSED, bf16: false }),
    row("fused-bf16", Ours { provider: FUSED, bf16: true }),
    checkpointed("torch-f32-checkpointed", Torch { mode: "f32" }),
    checkpointed("torch-bf16-checkpointed", Torch { mode: "bf16" }),
    checkpointed("torch-autocast-checkpointed", Torch { mode: "autocast" }),
    checkpointed("reference-f32-checkpointed", Ours { provider: REFERENCE, bf16: false }),
    checkpointed("reference-bf16-checkpointed", Ours { provider: REFERENCE, bf16: true }),
    checkpointed("fused-f32-checkpointed", Ours { provider: FUSED, bf16: false }),
    checkpointed("fused-bf16-checkpointed", Ours { provider: FUSED, bf16: true }),
    held_to(Instructions::NoTiles, "torch-bf16-notiles", Torch { mode: "bf16" }),
    held_to(Instructions::NoTiles, "torch-autocast-notiles", Torch { mode: "autocast" }),
    held_to(Instructions::Avx2, "torch-f32-avx2", Torch { mode: "f32" }),
    held_to(Instructions::Avx2, "torch-autocast-avx2", Torch { mode: "autocast" }),
    held_to(Instructions::Avx2, "fused-f32-avx2", Ours { provider: FUSED, bf16: false }),
    held_to(Instructions::Avx2, "fused-bf16-avx2", Ours { provider: FUSED, bf16: true }),
];

impl Named for Contender {
    fn name(&self) -> &str {
        self.name
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
    fn a_row_is_what_its_name_says() {
        for Contender { name, program, checkpointing, instructions } in CONTENDERS {
            let (who, precision) = match program {
                Ours { provider: Provider::Huggingface, bf16 } => {
                    ("reference", if *bf16 { "bf16" } else { "f32" })
                }
                Ours { provider: Provider::Unsloth, bf16 } => ("fused", if *bf16 { "bf16" } else { "f32" }),
                Torch { mode } => ("torch", *mode),
            };
            let held = match instructions {
                Instructions::All => "",
                Instructions::NoTiles => "-notiles",
                Instructions::Avx2 => "-avx2",
            };
            let checkpointed = if *checkpointing { "-checkpointed" } else { "" };
            assert_eq!(*name, format!("{who}-{precision}{checkpointed}{held}"));
        }
    }

    #[test]
    fn every_contender_has_a_peer_in_f32_or_autocast() {
        for contender in CONTENDERS {
            let peers = ["f32", "autocast"]
                .map(|mode| CONTENDERS.iter().filter(|peer| peer.is_peer_of(contender, mode)).count());
            assert!(peers[1] == 1 && peers[0] <= 1, "{} has peers {peers:?}", contender.name);
        }
        assert_eq!(CONTENDERS.iter().filter(|c| c.is_memory_peer()).count(), 3, "f32, bf16 and autocast");
    }
}
