//! How the settings keep the base's linear layers.

use super::TrainingConfig;
use crate::{BnbDtype, QuantType};

/// What the weights of linear layers are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantCodes {
    /// Blocks of 64 values of four bits, quantiles of a normal distribution.
    Nf4,
    /// Blocks of 64 values of four bits, floating-point.
    Fp4,
    /// Rows of integers of eight bits.
    Int8,
}

impl QuantCodes {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            QuantCodes::Nf4 => "nf4",
            QuantCodes::Fp4 => "fp4",
            QuantCodes::Int8 => "int8",
        }
    }
}

/// A base whose linear layers are quantised; embeddings, norms and the head are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantisation {
    /// What values become.
    pub codes: QuantCodes,
    /// Whether the scales of four-bit blocks are quantised too.
    pub nested: bool,
    /// Whether products are of sixteen bits, bf16 or f16 as the device and the run have it, instead of f32.
    pub bf16: bool,
}

impl Quantisation {
    /// Bytes that `values` values take, scales included: one of 32 bits, or of a little more than 8, for each 64.
    pub fn bytes(self, values: u64) -> u64 {
        match (self.codes, self.nested) {
            // The scales of rows are few.
            (QuantCodes::Int8, _) => values,
            (_, false) => values / 2 + values / 16,
            (_, true) => values / 2 + values / 64 + values / 64 / 64,
        }
    }
}

impl TrainingConfig {
    /// How the base is quantised, if it is.
    ///
    /// Products of four-bit weights are of `bnb_4bit_compute_dtype`. No processor here multiplies float16, so that stands for the run's
    /// own precision: of sixteen bits with bf16 or fp16, else f32, which holds every float16.
    pub fn quantisation(&self) -> Option<Quantisation> {
        let codes = match (self.use_4bit, self.use_8bit, self.bnb_4bit_quant_type) {
            (false, false, _) => return None,
            (true, _, QuantType::Nf4) => QuantCodes::Nf4,
            (true, _, QuantType::Fp4) => QuantCodes::Fp4,
            (false, true, _) => QuantCodes::Int8,
        };
        let bf16 = match self.bnb_4bit_compute_dtype {
            BnbDtype::Float32 if self.use_4bit => false,
            BnbDtype::Bfloat16 if self.use_4bit => true,
            _ => self.bf16 || self.fp16,
        };
        Some(Quantisation { codes, nested: self.use_4bit && self.use_nested_quant, bf16 })
    }
}
