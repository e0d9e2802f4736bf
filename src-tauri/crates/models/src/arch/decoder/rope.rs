//! Frequencies of the rotary position embedding, with the ways of stretching them that `config.json` can ask for.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{Result, bail};
use kernels::{RopeForm, RopeTable};

use crate::Sequences;

/// Positions of the first table; later ones cover twice as many as are needed.
const FIRST: usize = 512;

/// A rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// Width of a head.
    pub head: usize,
    /// How much of it is rotated.
    pub width: usize,
    /// Whether neighbours are rotated, and not the two halves.
    pub interleaved: bool,
    pub scaling: Scaling,
}

/// How the frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) enum Scaling {
    /// Not at all. Dynamic scaling too is this as long as a sequence fits `max_position_embeddings`, and none longer is
    /// accepted.
    None,
    /// Positions are divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        factor: f32,
    },
    /// Llama 3.1.
    Llama3 {
        factor: f32,
        low_frequency: f32,
        high_frequency: f32,
        original: f32,
    },
    Yarn(Yarn),
    /// Each frequency is divided by a factor of its own, in sequences beyond `original` tokens by another one (Ding et al.
    /// 2024, arXiv:2402.13753).
    Long {
        short: Vec<f32>,
        long: Vec<f32>,
        original: usize,
        attention: f32,
    },
}

/// Fast frequencies stay, slow ones are divided by `factor`, those between are blended (Peng et al. 2023,
/// arXiv:2309.00071).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::arch) struct Yarn {
    pub factor: f32,
    pub original: usize,
    /// Turns within `original` tokens from which on a frequency is fast.
    pub fast: f64,
    /// Turns up to which it is slow.
    pub slow: f64,
    /// Whether the ends of the blend are rounded to whole dimensions.
    pub whole: bool,
    /// What rotated dimensions are multiplied by.
    pub attention: f32,
}

impl Rope {
    /// `theta^(−2i / width)` for each pair of dimensions, stretched; in f32, as transformers computes it.
    pub fn frequencies(&self) -> Vec<f32> {
        let plain = self.plain();
        match &self.scaling {
            Scaling::None => plain,
            Scaling::Linear { factor } => plain.iter().map(|f| f / factor).collect(),
            Scaling::Llama3 { factor, low_frequency, high_frequency, original } => plain
                .iter()
                .map(|&f| llama3(f, *factor, *low_frequency, *high_frequency, *original))
                .collect(),
            Scaling::Yarn(yarn) => yarn.blend(&plain, self.theta, self.width),
            Scaling::Long { short, .. } => self.divided(short),
        }
    }

    /// `theta^(2i / width)`: a turn takes so many positions, by 2π.
    fn wavelengths(&self) -> impl Iterator<Item = f32> {
        (0..self.width / 2).map(|i| self.theta.powf((2 * i) as f32 / self.width as f32))
    }

    /// Without any stretching.
    fn plain(&self) -> Vec<f32> {
        self.wavelengths().map(|wavelength| 1.0 / wavelength).collect()
    }

    /// Each divided by a factor of its own.
    fn divided(&self, by: &[f32]) -> Vec<f32> {
        self.wavelengths().zip(by).map(|(wavelength, factor)| 1.0 / (factor * wavelength)).collect()
    }

    /// The length beyond which a sequence has other frequencies, and these.
    fn beyond(&self) -> Option<(usize, Vec<f32>)> {
        match &self.scaling {
            Scaling::Long { long, original, .. } => Some((*original, self.divided(long))),
            _ => None,
        }
    }

    /// How heads are rotated.
    pub fn form(&self) -> RopeForm {
        let factor = match &self.scaling {
            Scaling::Yarn(yarn) => yarn.attention,
            Scaling::Long { attention, .. } => *attention,
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } => 1.0,
        };
        RopeForm { head: self.head, interleaved: self.interleaved, factor }
    }

    /// What llama.cpp divides each plain frequency by; none where they are not stretched one by one.
    pub fn divisors(&self) -> Option<Vec<f32>> {
        matches!(self.scaling, Scaling::Llama3 { .. })
            .then(|| self.plain().iter().zip(self.frequencies()).map(|(plain, f)| plain / f).collect())
    }
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

impl Yarn {
    fn blend(&self, plain: &[f32], theta: f32, width: usize) -> Vec<f32> {
        let (theta, dimensions) = (f64::from(theta), width as f64);
        // The dimension whose frequency makes so many turns within `original` tokens.
        let dimension = |turns: f64| {
            let wavelength = self.original as f64 / (turns * 2.0 * std::f64::consts::PI);
            dimensions * wavelength.ln() / (2.0 * theta.ln())
        };
        let (mut first, mut last) = (dimension(self.fast), dimension(self.slow));
        if self.whole {
            (first, last) = (first.floor(), last.ceil());
        }
        let (first, mut last) = (first.max(0.0), last.min(dimensions - 1.0));
        if first == last {
            last += 0.001;
        }
        let (first, last) = (first as f32, last as f32);
        let stretch = |(i, f): (usize, &f32)| {
            let slow = ((i as f32 - first) / (last - first)).clamp(0.0, 1.0);
            f / self.factor * slow + f * (1.0 - slow)
        };
        plain.iter().enumerate().map(stretch).collect()
    }
}

/// The angles of a rotary embedding; the table grows with the positions that are asked for.
///
/// Where long sequences have frequencies of their own, the table begins with the positions of short ones, and those of
/// long ones come after.
pub(super) struct Angles {
    frequencies: Vec<f32>,
    beyond: Option<(usize, Vec<f32>)>,
    form: RopeForm,
    context_length: usize,
    table: RwLock<Arc<RopeTable>>,
}

impl Angles {
    pub fn new(rope: &Rope, context_length: usize) -> Self {
        let (frequencies, form) = (rope.frequencies(), rope.form());
        let table = RwLock::new(Arc::new(RopeTable::empty(&frequencies, form)));
        let beyond = rope.beyond().filter(|(original, _)| *original < context_length);
        Angles { frequencies, beyond, form, context_length, table }
    }

    /// The table, and the places in it of the tokens of `sequences`.
    pub fn at(&self, sequences: &Sequences) -> Result<(Arc<RopeTable>, Arc<Vec<u32>>)> {
        let longest = sequences.offset + sequences.lengths.iter().copied().max().unwrap_or(0);
        if longest > self.context_length {
            bail!(
                "a sequence of {longest} tokens is longer than the model's context of {}",
                self.context_length
            );
        }
        let mut positions = sequences.positions();
        let mut needed = longest;
        if let Some((original, _)) = &self.beyond {
            let mut at = 0;
            for &length in &sequences.lengths {
                if self.is_long((sequences.offset + length).max(sequences.reach)) {
                    positions[at..at + length].iter_mut().for_each(|p| *p += *original as u32);
                    needed = original + longest;
                }
                at += length;
            }
        }
        let mut table = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        if table.positions() < needed {
            table = Arc::new(self.table_for((2 * needed).max(FIRST)));
            *self.table.write().unwrap_or_else(PoisonError::into_inner) = table.clone();
        }
        Ok((table, Arc::new(positions)))
    }

    /// Whether a sequence of so many tokens has the frequencies of long ones.
    pub fn is_long(&self, length: usize) -> bool {
        self.beyond.as_ref().is_some_and(|(original, _)| length > *original)
    }

    /// A table of so many positions, or of all there are.
    fn table_for(&self, positions: usize) -> RopeTable {
        let mut table = RopeTable::empty(&self.frequencies, self.form);
        match &self.beyond {
            Some((original, long)) => {
                table.extend(&self.frequencies, 0..*original);
                table.extend(long, 0..positions.saturating_sub(*original).min(self.context_length));
            }
            None => table.extend(&self.frequencies, 0..positions.min(self.context_length)),
        }
        table
    }
}
