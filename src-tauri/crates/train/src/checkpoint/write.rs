//! Writing a checkpoint: a copy of everything first, and files from the copy then.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use candle_core::Var;
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use types::{JobFolder, TrainingConfig, files, manifest::FileHash};

use super::{
    ADAPTER, DESCRIPTION, Description, OPTIMIZER, UNFINISHED, clear_unfinished, remove, remove_superseded,
    settings, state,
};
use crate::{
    TrainError,
    optimizers::{Optimizer, StateValues},
    progress::Progress,
    tensors,
};

/// Numbers that are turned into bytes at a time.
const CHUNK: usize = 16 << 10;

/// A copy of what a checkpoint holds: training may change the originals while it is written.
pub(crate) struct Snapshot {
    job: JobFolder,
    /// How many of the newest checkpoints stay.
    kept: usize,
    config: BTreeMap<String, String>,
    total_steps: u64,
    progress: Progress,
    adapter: Vec<Named>,
    optimizer: Vec<Named>,
}

struct Named {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
}

impl Snapshot {
    /// Copies the state of a run after its newest step.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub fn of(
        job: &JobFolder,
        config: &TrainingConfig,
        total_steps: u64,
        progress: &Progress,
        trainable: &[(String, Var)],
        optimizers: &mut [Box<dyn Optimizer>],
    ) -> Result<Self, TrainError> {
        let mut adapter = Vec::new();
        for (name, var) in trainable {
            let values = Values::F32(tensors::read(var, <[f32]>::to_vec)?);
            adapter.push(Named { name: name.clone(), shape: var.dims().to_vec(), values });
        }
        for optimizer in optimizers.iter_mut() {
            optimizer.leave_card()?;
        }
        let optimizer = state(trainable, optimizers).map(|(name, entry)| {
            let (len, values) = match entry.values {
                StateValues::F32(values) => (values.len(), Values::F32(values.to_vec())),
                StateValues::U8(values) => (values.len(), Values::U8(values.to_vec())),
            };
            Named { name, shape: vec![len], values }
        });
        Ok(Self {
            job: job.clone(),
            kept: config.save_total_limit as usize,
            config: settings(config)?,
            total_steps,
            progress: progress.clone(),
            adapter,
            optimizer: optimizer.collect(),
        })
    }

    /// The last step it contains.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Writes the checkpoint, then removes the ones that it makes needless.
    ///
    /// # Errors
    /// A file cannot be written; then no folder of the checkpoint's name exists.
    pub fn write(&self) -> Result<PathBuf, TrainError> {
        let (job, step) = (&self.job, self.step());
        clear_unfinished(job)?;
        let folder = job.path().join(format!("{UNFINISHED}{step}.writing"));
        fs::create_dir(&folder).map_err(TrainError::file(&folder))?;
        if let Err(error) = self.fill(&folder) {
            // Why it cannot be written matters more than whether the remains can be removed.
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
        let path = job.checkpoint(step);
        if path.exists() {
            remove(job, step)?;
        }
        // A run that goes on from here has all events of the steps before, even after a power cut.
        sync_events(job).map_err(TrainError::file(job.events()))?;
        files::publish_folder(&folder, &path).map_err(TrainError::file(&path))?;

        // Newer ones were passed over as damaged when the run was resumed.
        let steps = job.checkpoints().map_err(TrainError::file(job.path()))?;
        for newer in steps.into_iter().filter(|&other| other > step) {
            remove(job, newer)?;
        }
        remove_superseded(job, &self.progress, self.kept)?;
        Ok(path)
    }

    fn fill(&self, folder: &Path) -> Result<(), TrainError> {
        let mut listed = Vec::new();
        for (name, tensors) in [(ADAPTER, &self.adapter), (OPTIMIZER, &self.optimizer)] {
            let path = folder.join(name);
            let hashed = write_tensors(&path, tensors).and_then(|()| {
                let bytes = fs::metadata(&path)?.len();
                Ok(FileHash { path: name.into(), bytes, sha256: files::sha256(&path)? })
            });
            listed.push(hashed.map_err(TrainError::file(&path))?);
        }
        let path = folder.join(DESCRIPTION);
        let description = Description {
            version: Description::VERSION,
            total_steps: self.total_steps,
            config: self.config.clone(),
            progress: self.progress.clone(),
            files: listed,
        };
        files::write_json(&path, &description).map_err(TrainError::file(&path))
    }
}

impl Named {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::U8(_) => Dtype::U8,
        }
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => size_of_val(values.as_slice()),
            Values::U8(values) => values.len(),
        }
    }
}

/// A file of safetensors, of which no second copy is made in memory.
fn write_tensors(path: &Path, tensors: &[Named]) -> io::Result<()> {
    let mut tensors: Vec<&Named> = tensors.iter().collect();
    // The widest values first keeps each tensor at a multiple of its values' width.
    tensors.sort_by_key(|tensor| Reverse(tensor.dtype().bitsize()));
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.bytes();
        let info =
            TensorInfo { dtype: tensor.dtype(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    });
    let metadata = Metadata::new(None, infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    files::write_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        let mut bytes = Vec::with_capacity(CHUNK * size_of::<f32>());
        for tensor in tensors {
            match &tensor.values {
                Values::U8(values) => file.write_all(values)?,
                Values::F32(values) => {
                    for chunk in values.chunks(CHUNK) {
                        bytes.clear();
                        chunk.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                        file.write_all(&bytes)?;
                    }
                }
            }
        }
        Ok(())
    })
}

fn sync_events(job: &JobFolder) -> io::Result<()> {
    // Windows flushes what is open for writing only.
    match File::options().append(true).open(job.events()) {
        Ok(events) => events.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
