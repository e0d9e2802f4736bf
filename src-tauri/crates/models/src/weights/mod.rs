//! The tensors of a model's folder: one `model.safetensors` or the shards of `model.safetensors.index.json`.

pub mod header;
pub(crate) mod mxfp4;
mod quantised;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use serde_json::Value;

use crate::{ModelError, json::JsonFile};
use header::{Entry, Stored, read_header};
pub use quantised::Quantise;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// The tensors of a model or adapter, found but not read. Each is taken out once, so that what is left over is known.
pub struct Weights {
    entries: BTreeMap<String, Entry>,
    source: PathBuf,
    device: Device,
    dtype: DType,
    /// How linear layers are kept, where that is not as the rest is.
    quantise: Option<Quantise>,
}

impl Weights {
    /// Finds the tensors of the model in `folder`; they are given as `dtype`: f32, bf16 or f16.
    pub fn open(folder: &Path, dtype: DType, device: &Device) -> Result<Self, ModelError> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        if single.is_file() {
            return Self::open_file(&single, dtype, device);
        }
        if index.is_file() {
            return Ok(Weights {
                entries: read_shards(folder, &index)?,
                source: index,
                device: device.clone(),
                dtype,
                quantise: None,
            });
        }
        let problem = if folder.join("pytorch_model.bin").is_file()
            || folder.join("pytorch_model.bin.index.json").is_file()
        {
            "has its weights only as pytorch_model.bin, a pickle, which can run code when it is opened; convert it to \
             model.safetensors (transformers: save_pretrained(…, safe_serialization=True))"
        } else {
            "has neither model.safetensors nor model.safetensors.index.json"
        };
        Err(ModelError::File { path: folder.to_owned(), problem: problem.into() })
    }

    /// The tensors of one safetensors file.
    pub fn open_file(path: &Path, dtype: DType, device: &Device) -> Result<Self, ModelError> {
        let entries = read_header(path)?;
        Ok(Weights { entries, source: path.to_owned(), device: device.clone(), dtype, quantise: None })
    }

    /// Whether there is a tensor of this name that has not been taken.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Takes the tensor called `name`, which must have this shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.take_entry(name, shape, "").and_then(|entry| self.read(name, &entry))
    }

    /// The same, where the shape follows from these fields of `config.json`.
    pub(crate) fn take_sized(
        &mut self,
        name: &str,
        shape: &[usize],
        fields: &str,
    ) -> Result<Tensor, ModelError> {
        self.take_entry(name, shape, fields).and_then(|entry| self.read(name, &entry))
    }

    /// [`take_sized`](Self::take_sized) to another device than the others'.
    pub(crate) fn take_sized_to(
        &mut self,
        device: &Device,
        name: &str,
        shape: &[usize],
        fields: &str,
    ) -> Result<Tensor, ModelError> {
        let own = std::mem::replace(&mut self.device, device.clone());
        let taken = self.take_sized(name, shape, fields);
        self.device = own;
        taken
    }

    /// What is multiplied in sixteen bits.
    fn sixteen_bits(&self) -> Result<DType, ModelError> {
        match self.dtype {
            DType::F32 => Ok(kernels::computed_in(&self.device, true, false)?),
            own => Ok(own),
        }
    }

    /// Where tensors go.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Whether linear layers are kept in fewer bits for want of memory.
    pub(crate) fn is_quantised(&self) -> bool {
        self.quantise.is_some()
    }

    /// Takes the bytes of a tensor that holds numbers from 0 to 255.
    pub(crate) fn take_bytes(
        &mut self,
        name: &str,
        shape: &[usize],
        fields: &str,
    ) -> Result<Vec<u8>, ModelError> {
        let entry = self.take_entry(name, shape, fields)?;
        if entry.dtype != "U8" {
            let problem = format!("is stored as {}; U8 is expected", entry.dtype);
            return Err(self.wrong(name, &entry.path, problem));
        }
        entry.bytes().map_err(|source| ModelError::Io { path: entry.path.clone(), source })
    }

    /// Gives the parts of a model for texts and images the names that transformers and PEFT know them by; published files
    /// have older ones.
    pub(crate) fn name_text_part(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.entries =
            entries.into_iter().map(|(name, entry)| (canonical(&name).into_owned(), entry)).collect();
    }

    fn take_entry(&mut self, name: &str, shape: &[usize], fields: &str) -> Result<Entry, ModelError> {
        let expected = || match fields {
            "" => format!("{shape:?} is expected"),
            fields => format!("{shape:?} is expected by {fields} in config.json"),
        };
        let Some(entry) = self.entries.remove(name) else {
            return Err(self.wrong(name, &self.source, format!("is missing; shape {}", expected())));
        };
        if entry.shape != shape {
            let problem = format!("has shape {:?}; {}", entry.shape, expected());
            return Err(self.wrong(name, &entry.path, problem));
        }
        Ok(entry)
    }

    fn read(&self, name: &str, entry: &Entry) -> Result<Tensor, ModelError> {
        let (stored, shape) = (entry.weight(name)?, entry.shape.as_slice());
        let io = |source| ModelError::Io { path: entry.path.clone(), source };
        let tensor = match self.dtype {
            DType::BF16 => Tensor::from_vec(read::<bf16>(entry, stored).map_err(io)?, shape, &self.device)?,
            DType::F16 => {
                let values = read::<f16>(entry, stored).map_err(io)?;
                if !values.iter().all(|value| value.is_finite()) {
                    let problem = format!(
                        "has a value beyond {}, the largest that fp16 has; compute in 32 bits instead (fp16 and bf16 \
                         false), or in bf16 on a card of compute capability 8.0 or later",
                        f16::MAX
                    );
                    return Err(self.wrong(name, &entry.path, problem));
                }
                Tensor::from_vec(values, shape, &self.device)?
            }
            _ => Tensor::from_vec(read::<f32>(entry, stored).map_err(io)?, shape, &self.device)?,
        };
        Ok(tensor)
    }

    /// All that have not been taken, by name.
    pub(crate) fn into_entries(self) -> BTreeMap<String, Entry> {
        self.entries
    }

    /// Drops every tensor whose name `ignored` accepts, and fails when one is left.
    pub fn finish(self, ignored: impl Fn(&str) -> bool) -> Result<(), ModelError> {
        match self.entries.iter().find(|(name, _)| !ignored(name)) {
            None => Ok(()),
            Some((name, entry)) => {
                let problem = "does not belong to a model of this architecture and config.json".to_owned();
                Err(self.wrong(name, &entry.path, problem))
            }
        }
    }

    fn wrong(&self, name: &str, path: &Path, problem: String) -> ModelError {
        ModelError::Tensor { path: path.to_owned(), tensor: name.into(), problem }
    }
}

/// Older names of a model's parts, and what they are called since.
const RENAMED: [(&str, &str); 4] = [
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
];

/// The name by which transformers and PEFT know a tensor of a published file.
pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
    let renamed =
        RENAMED.iter().find_map(|(old, new)| name.strip_prefix(old).map(|rest| format!("{new}{rest}")));
    renamed.map_or(Cow::Borrowed(name), Cow::Owned)
}

impl Entry {
    /// How its values are stored, where that is a way that weights are.
    pub(crate) fn weight(&self, name: &str) -> Result<Stored, ModelError> {
        self.stored.ok_or_else(|| ModelError::Tensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            problem: format!("is stored as {}; only F32, F16 and BF16 weights are read", self.dtype),
        })
    }

    /// It as it lies in the file.
    fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        let mut bytes = Vec::new();
        file.take(self.bytes).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == self.bytes {
            Ok(bytes)
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Its values.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        read(self, self.weight(name)?).map_err(|source| ModelError::Io { path: self.path.clone(), source })
    }
}

/// The tensors that the index names, each in the shard it names.
fn read_shards(folder: &Path, index: &Path) -> Result<BTreeMap<String, Entry>, ModelError> {
    let json = JsonFile::read(index)?;
    let Some(Value::Object(map)) = json.get("weight_map") else {
        return Err(json.wrong("weight_map", "must be an object from tensor to file name"));
    };
    let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str().filter(|f| is_plain_name(f)) else {
            return Err(json.wrong(
                "weight_map",
                format!("tensor \"{tensor}\" must name a .safetensors file of this folder, not {file}"),
            ));
        };
        shards.entry(file).or_default().insert(tensor);
    }
    let mut entries = BTreeMap::new();
    for (file, tensors) in shards {
        let mut found = read_header(&folder.join(file))?;
        for tensor in tensors {
            let Some(entry) = found.remove(tensor) else {
                return Err(json.wrong("weight_map", format!("tensor \"{tensor}\" is not in {file}")));
            };
            entries.insert(tensor.to_owned(), entry);
        }
    }
    Ok(entries)
}

/// Whether a file name stays in its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && name.ends_with(".safetensors")
        && !name.contains(['/', '\\', ':'])
}

/// A value of a loaded weight.
trait Value32: Copy {
    fn narrow(value: f32) -> Self;
    fn from_bf16(value: bf16) -> Self;
}

impl Value32 for f32 {
    fn narrow(value: f32) -> Self {
        value
    }

    fn from_bf16(value: bf16) -> Self {
        value.to_f32()
    }
}

impl Value32 for bf16 {
    fn narrow(value: f32) -> Self {
        bf16::from_f32(value)
    }

    fn from_bf16(value: bf16) -> Self {
        value
    }
}

impl Value32 for f16 {
    fn narrow(value: f32) -> Self {
        f16::from_f32(value)
    }

    fn from_bf16(value: bf16) -> Self {
        f16::from_f32(value.to_f32())
    }
}

/// Reads a tensor piece by piece, converting on the way.
fn read<T: Value32>(entry: &Entry, stored: Stored) -> std::io::Result<Vec<T>> {
    let count = usize::try_from(entry.bytes).map_err(std::io::Error::other)? / stored.bytes();
    let mut values = kernels::in_large_pages(count);
    in_pieces(entry, |piece| append(piece, stored, &mut values))?;
    Ok(values)
}

/// Gives `f` the values of a tensor as f32, a piece at a time.
fn floats_in_pieces(entry: &Entry, stored: Stored, mut f: impl FnMut(&[f32])) -> std::io::Result<()> {
    let mut values = Vec::with_capacity(PIECE / stored.bytes());
    in_pieces(entry, |piece| {
        values.clear();
        append(piece, stored, &mut values);
        f(&values);
    })
}

/// Gives `f` the bytes of a tensor, of which every piece holds whole values.
fn in_pieces(entry: &Entry, mut f: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut file = File::open(&entry.path)?;
    file.seek(SeekFrom::Start(entry.start))?;
    let mut left = usize::try_from(entry.bytes).map_err(std::io::Error::other)?;
    let mut buffer = vec![0u8; PIECE.min(left)];
    while left > 0 {
        let piece = &mut buffer[..PIECE.min(left)];
        file.read_exact(piece)?;
        left -= piece.len();
        f(piece);
    }
    Ok(())
}

fn append<T: Value32>(piece: &[u8], stored: Stored, values: &mut Vec<T>) {
    match stored {
        Stored::F32 => values.extend(piece.as_chunks().0.iter().map(|&b| T::narrow(f32::from_le_bytes(b)))),
        Stored::Bf16 => {
            values.extend(piece.as_chunks().0.iter().map(|&b| T::from_bf16(bf16::from_le_bytes(b))));
        }
        Stored::F16 => {
            values.extend(piece.as_chunks().0.iter().map(|&b| T::narrow(f16::from_le_bytes(b).to_f32())));
        }
    }
}
