//! What the base model finds of both answers of every pair, computed once before the first step and kept in the job's folder:
//! the adapter is off for it, so there is no second model.

use std::{collections::HashMap, fs, path::Path};

use candle_core::Tensor;
use data::{Batch, Prepared, TokenRows};
use models::{Model, ModelView, Pass};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use types::{JobFolder, Phase, TrainEvent, TrainingConfig, files};

use crate::{TrainError, batches::JOINED_TOKENS, chain::chain, strategies};

const FILE: &str = "reference.safetensors";
/// The tensors in it, f32 `[pairs, 2]`.
const PARTS: [&str; 2] = ["train", "eval"];
const KEY: &str = "key";
/// The largest header that is read.
const OVERHEAD: u64 = 1 << 20;

/// The log-likelihoods that the base model gives both answers of each row, the better one first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reference {
    /// Of the rows to train on.
    pub train: Vec<[f32; 2]>,
    /// Of the rows to evaluate on.
    pub eval: Vec<[f32; 2]>,
}

impl Reference {
    /// Zeros, where numbers do not matter.
    pub(crate) fn zeros(data: &Prepared) -> Self {
        Self { train: vec![[0.0; 2]; data.train.len()], eval: vec![[0.0; 2]; data.eval.len()] }
    }

    /// As it was computed for the same rows and the same model before, or computed now. `None` where `wanted` says no.
    ///
    /// # Errors
    /// The rows cannot be read, the model cannot compute them, or the disk refuses.
    pub(crate) fn of(
        model: &dyn Model,
        data: &Prepared,
        config: &TrainingConfig,
        job: &JobFolder,
        sink: &mut dyn FnMut(TrainEvent),
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, TrainError> {
        let key = key(data, config, job)?;
        let path = job.path().join(FILE);
        if let Some(known) = read(&path, &key, data) {
            return Ok(Some(known));
        }
        sink(TrainEvent::Phase { phase: Phase::Reference });
        let Some(train) = compute(model, &data.train, wanted)? else { return Ok(None) };
        let Some(eval) = compute(model, &data.eval, wanted)? else { return Ok(None) };
        let computed = Self { train, eval };
        computed.write(&path, key)?;
        Ok(Some(computed))
    }

    fn write(&self, path: &Path, key: String) -> Result<(), TrainError> {
        let bytes = |pairs: &[[f32; 2]]| pairs.as_flattened().iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts: [Vec<u8>; 2] = [bytes(&self.train), bytes(&self.eval)];
        let shapes = [vec![self.train.len(), 2], vec![self.eval.len(), 2]];
        let views = PARTS.iter().zip(&parts).zip(shapes);
        let written = views
            .map(|((name, bytes), shape)| Ok((*name, TensorView::new(Dtype::F32, shape, bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .and_then(|views| safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), key)]))))
            .map_err(std::io::Error::other)
            .and_then(|bytes| files::write(path, &bytes));
        written.map_err(TrainError::file(path))
    }
}

/// What the numbers depend on: the files that the run started from, the tokens of all rows, and how is computed.
fn key(data: &Prepared, config: &TrainingConfig, job: &JobFolder) -> Result<String, TrainError> {
    let inputs = job.inputs();
    let inputs = if inputs.exists() {
        files::sha256(&inputs).map_err(TrainError::file(&inputs))?
    } else {
        String::new()
    };
    let mut hash = Sha256::new();
    let mut add = |word: u32| hash.update(word.to_le_bytes());
    for rows in [&data.train, &data.eval] {
        for index in 0..rows.len() {
            let row = rows.read(index).map_err(TrainError::Rows)?;
            for row in std::iter::once(&row).chain(row.rejected.as_deref()) {
                add(row.ids.len() as u32);
                row.ids
                    .iter()
                    .zip(&row.trained)
                    .for_each(|(&id, &trained)| add(id << 1 | u32::from(trained)));
            }
        }
        add(u32::MAX);
    }
    let rows: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let provider = config.provider.map_or("", |provider| provider.name());
    let quantised = [config.use_4bit, config.use_8bit, config.use_nested_quant];
    let types = format!("{:?} {} {}", quantised, config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype);
    let fp16 = if config.fp16 { " fp16" } else { "" };
    Ok(format!("{inputs} {rows} {provider} bf16 {}{fp16} {types}", config.bf16))
}

/// What the file holds, if it is whole and of this key: otherwise it is made again.
fn read(path: &Path, key: &str, data: &Prepared) -> Option<Reference> {
    let expected = (data.train.len() + data.eval.len()) as u64 * 8;
    if fs::metadata(path).ok()?.len() > expected + OVERHEAD {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
    if header.metadata().as_ref()?.get(KEY)? != key {
        return None;
    }
    let tensors = SafeTensors::deserialize(&bytes).ok()?;
    let part = |name: &str, rows: usize| {
        let view = tensors.tensor(name).ok()?;
        let fits = view.dtype() == Dtype::F32 && view.shape() == [rows, 2];
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|&v| f32::from_le_bytes(v)).collect();
        fits.then(|| values.as_chunks().0.to_vec())
    };
    Some(Reference { train: part(PARTS[0], data.train.len())?, eval: part(PARTS[1], data.eval.len())? })
}

/// Both answers of each row, several rows at a time.
fn compute(
    model: &dyn Model,
    rows: &TokenRows,
    wanted: &dyn Fn() -> bool,
) -> Result<Option<Vec<[f32; 2]>>, TrainError> {
    let mut computed = Vec::with_capacity(rows.len());
    let mut next = 0;
    while next < rows.len() {
        if !wanted() {
            return Ok(None);
        }
        let mut batch = Batch::default();
        while next < rows.len()
            && (batch.lengths.is_empty() || batch.tokens() + rows.length(next) <= JOINED_TOKENS)
        {
            batch.add(&rows.read(next).map_err(TrainError::Rows)?);
            next += 1;
        }
        let values = log_probs(model, &batch)?.to_vec1::<f32>()?;
        let likelihoods = strategies::likelihoods(&values, &batch);
        let pairs = likelihoods.as_chunks::<2>().0.iter();
        computed.extend(pairs.map(|[chosen, rejected]| [chosen.log_prob as f32, rejected.log_prob as f32]));
    }
    Ok(Some(computed))
}

/// The base model's log-probabilities of all tokens that count.
fn log_probs(model: &dyn Model, batch: &Batch) -> Result<Tensor, TrainError> {
    let ModelView::Causal(causal) = model.view() else {
        return Err(
            candle_core::Error::Msg("answers can be compared by decoder-only models only".into()).into()
        );
    };
    let chain = chain(model, batch);
    let mut state = chain.start()?;
    for index in 0..chain.len() {
        state = chain.layer(index, &state, Pass::BASE)?.iter().map(Tensor::detach).collect();
    }
    Ok(causal.token_log_probs(&chain.end(&state)?.detach(), &batch.targets)?)
}
