//! Frequencies of the rotary position embedding, with the ways of stretching them that `config.json` can ask for.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{Result, bail};
use kernels::RopeTable;

use super::config::{Config, Scaling};
use crate::Sequences;

/// Positions of the first table; later ones cover twice as many as are needed.
const FIRST: usize = 512;

/// The rotary embedding of a model; its table grows with the positions that are asked for.
pub(super) struct Rope {
    inverse_frequencies: Vec<f32>,
    context_length: usize,
    table: RwLock<Arc<RopeTable>>,
}

impl Rope {
    pub(super) fn new(config: &Config) -> Self {
        let inverse_frequencies = inverse_frequencies(config);
        let table = RopeTable::new(&inverse_frequencies, FIRST.min(config.context_length));
        let table = RwLock::new(Arc::new(table));
        Rope { inverse_frequencies, context_length: config.context_length, table }
    }

    /// The table and the positions of the tokens of `sequences`.
    pub(super) fn at(&self, sequences: &Sequences) -> Result<(Arc<RopeTable>, Arc<Vec<u32>>)> {
        let needed = sequences.offset + sequences.lengths.iter().copied().max().unwrap_or(0);
        if needed > self.context_length {
            bail!(
                "a sequence of {needed} tokens is longer than the model's context of {}",
                self.context_length
            );
        }
        let mut table = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        if table.positions() < needed {
            table =
                Arc::new(RopeTable::new(&self.inverse_frequencies, (2 * needed).min(self.context_length)));
            *self.table.write().unwrap_or_else(PoisonError::into_inner) = table.clone();
        }
        Ok((table, Arc::new(sequences.positions())))
    }
}

/// `theta^(−2i / dim)` for each pair of dimensions, scaled as the config says; in f32, as transformers computes it.
fn inverse_frequencies(config: &Config) -> Vec<f32> {
    let dim = config.heads.dim;
    let plain = (0..dim / 2).map(|i| 1.0 / config.rope_theta.powf((2 * i) as f32 / dim as f32));
    match config.scaling {
        Scaling::None => plain.collect(),
        Scaling::Linear { factor } => plain.map(|f| f / factor).collect(),
        Scaling::Llama3 { factor, low_frequency, high_frequency, original } => {
            plain.map(|f| llama3(f, factor, low_frequency, high_frequency, original)).collect()
        }
    }
}

/// What llama.cpp divides each plain frequency by; none where they are not stretched one by one.
pub(super) fn divisors(config: &Config) -> Option<Vec<f32>> {
    matches!(config.scaling, Scaling::Llama3 { .. }).then(|| {
        let plain = inverse_frequencies(&Config { scaling: Scaling::None, ..config.clone() });
        plain.iter().zip(inverse_frequencies(config)).map(|(plain, stretched)| plain / stretched).collect()
    })
}

/// The frequency of Llama 3.1: short wavelengths stay, long ones are divided by `factor`, those between are blended
/// (`_compute_llama3_parameters` of transformers).
fn llama3(frequency: f32, factor: f32, low: f32, high: f32, original: f32) -> f32 {
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
