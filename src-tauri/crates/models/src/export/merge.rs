//! The tensors of a base model with an adapter merged in: `W + scale · B A`, computed in f32.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use types::ExportDtype;

use crate::{
    ModelError, adapter,
    weights::{Weights, canonical, header::Entry},
};

/// Values of an update that are computed at a time.
const PIECE: usize = 1 << 22;

/// A base model and an adapter, of which nothing but the adapter is in memory.
pub struct Merged {
    base: BTreeMap<String, Entry>,
    updates: BTreeMap<String, Update>,
    /// Tensors that the adapter holds as a whole.
    whole: BTreeMap<String, Tensor>,
}

/// `scale · B A`, the same shape as the weight.
struct Update {
    a: Tensor,
    b: Tensor,
    scale: f64,
}

impl Merged {
    /// Finds the tensors of the model in `base` and reads the adapter in `adapter`.
    ///
    /// # Errors
    /// Files that cannot be used, and an adapter that was made for another model.
    pub fn open(base: &Path, adapter: &Path) -> Result<Self, ModelError> {
        let base = Weights::open(base, DType::F32, &Device::Cpu)?.into_entries();
        if base.keys().any(|name| name.ends_with(".weight.absmax") || name.ends_with(".SCB")) {
            return Err(ModelError::Export(
                "the base is stored in few bits, as bitsandbytes has quantised it, and an adapter is merged into weights in full: \
                 export from the model that it was quantised from, or use base and adapter together"
                    .to_owned(),
            ));
        }
        let adapter::Opened { config, scale, modules_to_save, mut weights } =
            adapter::open(adapter, &Device::Cpu)?;
        let mut updates = BTreeMap::new();
        for (name, entry) in &base {
            let name_in_peft = canonical(name);
            let Some(path) = name_in_peft.strip_suffix(".weight") else { continue };
            let (name_a, name_b) =
                (adapter::tensor_name(path, "lora_A"), adapter::tensor_name(path, "lora_B"));
            if let ([out, inputs], true) = (entry.shape.as_slice(), weights.has(&name_a)) {
                let a = weights.take(&name_a, &[config.rank, *inputs])?;
                let b = weights.take(&name_b, &[*out, config.rank])?;
                updates.insert(name.clone(), Update { a, b, scale });
            }
        }
        let mut whole = BTreeMap::new();
        for module in &modules_to_save {
            for part in ["weight", "bias"] {
                let name = format!("{module}.{part}");
                let Some(entry) = base.get(&name) else {
                    return Err(ModelError::Export(format!(
                        "the base model was published without {module}, so there is no place for the trained one: tune a model \
                         that has it, or use base and adapter together"
                    )));
                };
                whole.insert(name, weights.take(&adapter::whole_name(module, part), &entry.shape)?);
            }
        }
        weights.finish(|_| false)?;
        Ok(Merged { base, updates, whole })
    }

    /// Names and places of the tensors, in the order in which they lie in the files.
    pub fn tensors(&self) -> Vec<(&str, &Entry)> {
        let mut all: Vec<(&str, &Entry)> =
            self.base.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
        all.sort_by_key(|(_, entry)| (&entry.path, entry.start));
        all
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        Ok(&self.find(name)?.shape)
    }

    /// How a tensor of the base is stored.
    ///
    /// # Errors
    /// In a way that weights are not read from.
    pub fn dtype(&self, name: &str) -> Result<ExportDtype, ModelError> {
        Ok(self.find(name)?.weight(name)?.dtype())
    }

    /// The merged values of a tensor.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        if let Some(trained) = self.whole.get(name) {
            return Ok(trained.flatten_all()?.to_vec1()?);
        }
        let mut values = self.find(name)?.read(name)?;
        let Some(Update { a, b, scale }) = self.updates.get(name) else { return Ok(values) };
        let (out, inputs) = (b.dim(0)?, a.dim(1)?);
        let rows = (PIECE / inputs.max(1)).max(1);
        for from in (0..out).step_by(rows) {
            let count = rows.min(out - from);
            let update = (b.narrow(0, from, count)?.matmul(a)? * *scale)?.flatten_all()?.to_vec1::<f32>()?;
            values.iter_mut().skip(from * inputs).zip(update).for_each(|(value, change)| *value += change);
        }
        Ok(values)
    }

    fn find(&self, name: &str) -> Result<&Entry, ModelError> {
        self.base.get(name).ok_or_else(|| {
            let path = self.base.values().next().map(|entry| entry.path.clone()).unwrap_or_default();
            ModelError::Tensor { path, tensor: name.to_owned(), problem: "is missing".into() }
        })
    }
}
