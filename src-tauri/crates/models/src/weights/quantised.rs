//! Weights of linear layers in four or eight bits: quantised as they are read, or as bitsandbytes has stored them.

use std::sync::Arc;

use candle_core::DType;
use kernels::{Codes, DynamicMap, FrozenWeight, Quantised, Quantiser, Scales};
use serde::Deserialize;

use super::{Weights, floats_in_pieces, header::Entry};
use crate::ModelError;

/// How the weights of linear layers are kept; embeddings, norms and the head stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantise {
    /// What values become.
    pub codes: Codes,
    /// Whether the scales of four-bit blocks are quantised too.
    pub nested: bool,
    /// Whether products are of bf16 instead of f32, or of f16 where the device or the run has that instead.
    pub bf16: bool,
}

/// What `quant_state.bitsandbytes__nf4` says, as JSON.
#[derive(Deserialize)]
struct QuantState {
    blocksize: usize,
    shape: Option<Vec<usize>>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

/// The longest such description.
const MAX_STATE: u64 = 1 << 14;

/// How far a code may be from ours: publishers have written the same books in fewer digits.
const SAME_CODE: f32 = 1e-4;

impl Weights {
    /// Keeps linear layers in fewer bits from now on.
    pub(crate) fn quantise(&mut self, how: Quantise) {
        self.quantise = Some(how);
    }

    /// Takes the weight `[out, in]` of a linear layer, whose shape follows from `fields`: as it is stored where that is in few bits,
    /// quantised piece by piece where that is asked for, else as any other tensor.
    pub(crate) fn take_linear(
        &mut self,
        name: &str,
        shape: (usize, usize),
        fields: &str,
    ) -> Result<FrozenWeight, ModelError> {
        let dtype = match self.quantise {
            Some(how) if how.bf16 => self.sixteen_bits()?,
            Some(_) => DType::F32,
            None => self.dtype,
        };
        let of_rows = name.strip_suffix(".weight").map(|path| format!("{path}.SCB"));
        let stored = if self.has(&format!("{name}.absmax")) {
            Some(self.take_four_bits(name, shape)?)
        } else if let Some(scales) = of_rows.filter(|scales| self.has(scales)) {
            Some(self.take_eight_bits(name, &scales, shape, fields)?)
        } else {
            None
        };
        let weight = match (stored, self.quantise) {
            (Some(weight), _) => weight,
            (None, Some(how)) => self.quantised(name, shape, fields, how)?,
            (None, None) => {
                let sides = [shape.0, shape.1];
                return self
                    .take_entry(name, &sides, fields)
                    .and_then(|e| self.read(name, &e))
                    .map(Into::into);
            }
        };
        Ok(FrozenWeight::Quantised { weight: Arc::new(weight), dtype })
    }

    fn quantised(
        &mut self,
        name: &str,
        shape: (usize, usize),
        fields: &str,
        how: Quantise,
    ) -> Result<Quantised, ModelError> {
        let entry = self.take_entry(name, &[shape.0, shape.1], fields)?;
        let stored = entry.weight(name)?;
        let mut quantiser = Quantiser::new(how.codes, how.nested, shape);
        let mut bad = None;
        floats_in_pieces(&entry, stored, |values| {
            if bad.is_none() {
                bad = quantiser.push(values).err();
            }
        })
        .map_err(|source| ModelError::Io { path: entry.path.clone(), source })?;
        match bad {
            Some(error) => Err(self.wrong(name, &entry.path, error.to_string())),
            None => quantiser.finish().map_err(|e| self.wrong(name, &entry.path, e.to_string())),
        }
    }

    /// A weight as bitsandbytes writes it: the codes under its own name, what belongs to them under names that begin with it.
    fn take_four_bits(&mut self, name: &str, shape: (usize, usize)) -> Result<Quantised, ModelError> {
        let states = [(Codes::Nf4, "nf4"), (Codes::Fp4, "fp4")];
        let found = states.into_iter().find_map(|(codes, kind)| {
            let name = format!("{name}.quant_state.bitsandbytes__{kind}");
            self.has(&name).then_some((codes, name))
        });
        let Some((codes, state_name)) = found else {
            let problem = "is in four bits, but quant_state.bitsandbytes__nf4 or __fp4 is missing";
            return Err(self.wrong(name, &self.source, problem.into()));
        };
        let (state, path) = self.take_raw(&state_name, MAX_STATE)?;
        let state: QuantState =
            serde_json::from_slice(&state).map_err(|e| self.wrong(&state_name, &path, e.to_string()))?;
        if state.shape.as_ref().is_some_and(|found| found != &[shape.0, shape.1]) {
            let problem = format!(
                "is of shape {:?}; {shape:?} is expected by config.json",
                state.shape.unwrap_or_default()
            );
            return Err(self.wrong(&state_name, &path, problem));
        }
        // Checked before anything is read: no file can ask for more memory than a weight of this shape takes.
        let count = (shape.0 as u64).saturating_mul(shape.1 as u64);
        let (packed, path) = self.take_raw(name, count.div_ceil(2))?;
        if let Some(book) = codes.book() {
            self.check_codes(&format!("{name}.quant_map"), book)?;
        }
        let blocks = count.div_ceil(state.blocksize.max(1) as u64);
        let absmax = format!("{name}.absmax");
        let scales = match state.nested_offset {
            None => Scales::Plain(self.take_floats(&absmax, blocks)?),
            Some(offset) => {
                if state.nested_blocksize != Some(256) {
                    let problem = format!("nested_blocksize {:?} is not 256", state.nested_blocksize);
                    return Err(self.wrong(&state_name, &path, problem));
                }
                self.check_codes(&format!("{name}.nested_quant_map"), DynamicMap::signed().codes())?;
                let (codes, _) = self.take_raw(&absmax, blocks)?;
                let scales = self.take_floats(&format!("{name}.nested_absmax"), blocks.div_ceil(256))?;
                Scales::Nested { codes, scales, offset }
            }
        };
        Quantised::from_parts(codes, packed, scales, shape, state.blocksize)
            .map_err(|e| self.wrong(name, &path, e.to_string()))
    }

    /// A weight of LLM.int8: integers, and the largest magnitude of each row.
    fn take_eight_bits(
        &mut self,
        name: &str,
        scales_name: &str,
        shape: (usize, usize),
        fields: &str,
    ) -> Result<Quantised, ModelError> {
        let format = format!("{name}_format");
        if self.has(&format) {
            let (bytes, path) = self.take_raw(&format, 8)?;
            if bytes.iter().any(|&byte| byte != 0) {
                let problem = "names a layout other than row by row, which is not read; save the model again with a \
                               newer bitsandbytes";
                return Err(self.wrong(&format, &path, problem.into()));
            }
        }
        let entry = self.take_entry(name, &[shape.0, shape.1], fields)?;
        if entry.dtype != "I8" {
            return Err(self.wrong(
                name,
                &entry.path,
                format!("is stored as {}; I8 is expected", entry.dtype),
            ));
        }
        let packed = entry.bytes().map_err(|source| ModelError::Io { path: entry.path.clone(), source })?;
        let scales = Scales::Plain(self.take_floats(scales_name, shape.0 as u64)?);
        Quantised::from_parts(Codes::Int8, packed, scales, shape, shape.1)
            .map_err(|e| self.wrong(name, &entry.path, e.to_string()))
    }

    /// The bytes of a tensor of any type and shape, at most so many.
    fn take_raw(&mut self, name: &str, most: u64) -> Result<(Vec<u8>, std::path::PathBuf), ModelError> {
        let entry = self.part(name)?;
        if entry.bytes > most {
            let problem = format!("takes {} bytes where at most {most} are expected", entry.bytes);
            return Err(self.wrong(name, &entry.path, problem));
        }
        let bytes = entry.bytes().map_err(|source| ModelError::Io { path: entry.path.clone(), source })?;
        Ok((bytes, entry.path))
    }

    fn take_floats(&mut self, name: &str, count: u64) -> Result<Vec<f32>, ModelError> {
        let entry = self.part(name)?;
        let stored = entry.weight(name)?;
        if entry.bytes != count.saturating_mul(stored.bytes() as u64) {
            let problem = format!("has shape {:?}; {count} values are expected", entry.shape);
            return Err(self.wrong(name, &entry.path, problem));
        }
        entry.read(name)
    }

    fn part(&mut self, name: &str) -> Result<Entry, ModelError> {
        match self.entries.remove(name) {
            Some(entry) => Ok(entry),
            None => Err(self.wrong(name, &self.source, "is missing beside a quantised weight".into())),
        }
    }

    /// Fails where a file's codes are not those that are computed with.
    fn check_codes(&mut self, name: &str, ours: &[f32]) -> Result<(), ModelError> {
        let theirs = self.take_floats(name, ours.len() as u64)?;
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= SAME_CODE;
        if theirs.iter().zip(ours).all(same) {
            return Ok(());
        }
        Err(self.wrong(name, &self.source, "holds other codes than bitsandbytes'".into()))
    }
}
