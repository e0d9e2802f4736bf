//! How a run goes on that ran out of memory: with less at a time, and the same rows in every optimizer step.

use std::{fs, io};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{JobFolder, RlAlgorithm, Strategy, TrainingConfig, files};

/// Bins of packed rows are split into so many parts at most.
const BIN_PARTS: u32 = 4;
/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 10;

/// What a run computes with instead of its settings since it ran out of memory. Each time that happens, its micro-batches are halved;
/// once they are single rows, gradient checkpointing is turned on; then a run on a card goes on on the processor, and else nothing is left to give up. The rows of every optimizer step,
/// their order and the number of steps stay, and so do the losses, but for rounding and for dropout's masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Each micro-batch of the settings is computed in so many parts, one after the other.
    #[schemars(range(min = 1))]
    pub batch_parts: u32,
    /// Rows that are computed at once in training.
    pub per_device_train_batch_size: u32,
    /// Batches of that size whose gradients are added up before an optimizer step.
    pub gradient_accumulation_steps: u32,
    /// Whether each layer is computed twice.
    pub gradient_checkpointing: bool,
    /// Whether the processor computes in place of a card: its memory did not suffice even so, or it does not answer any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_processor: bool,
}

impl Fallback {
    /// What is in force without one: the settings.
    pub fn none(config: &TrainingConfig) -> Self {
        Self::of(config, 1, config.gradient_checkpointing)
    }

    fn of(config: &TrainingConfig, batch_parts: u32, gradient_checkpointing: bool) -> Self {
        let rows = config.per_device_train_batch_size.max(1);
        let at_once = rows.div_ceil(batch_parts);
        let parts = if config.packing { batch_parts } else { rows.div_ceil(at_once) };
        Self {
            batch_parts,
            per_device_train_batch_size: at_once,
            gradient_accumulation_steps: config.gradient_accumulation_steps.saturating_mul(parts),
            gradient_checkpointing,
            on_processor: false,
        }
    }

    /// What to try after this ran out of memory, on a card or not; `None` where nothing is left.
    pub fn next(self, config: &TrainingConfig, on_card: bool) -> Option<Self> {
        let rows = config.per_device_train_batch_size.max(1);
        let divisible = match (config.strategy, config.rl_algorithm) {
            (Strategy::Rlhf, RlAlgorithm::Ppo) => config.rollout_batch_size,
            (Strategy::Rlhf, RlAlgorithm::Grpo) => {
                config.rollout_batch_size.saturating_mul(config.num_generations)
            }
            _ if config.packing => rows.saturating_mul(BIN_PARTS),
            // Short rows of several micro-batches are computed as one until then.
            _ if config.gradient_accumulation_steps > 1 => rows.max(2),
            _ => rows,
        };
        let less = if self.batch_parts < divisible {
            Self::of(config, self.batch_parts.saturating_mul(2), self.gradient_checkpointing)
        } else if !self.gradient_checkpointing {
            Self::of(config, self.batch_parts, true)
        } else {
            return (on_card && !self.on_processor).then(|| self.on_processor(true));
        };
        Some(less.on_processor(self.on_processor))
    }

    /// The same on the processor, or where it is computed otherwise.
    #[must_use]
    pub fn on_processor(self, on_processor: bool) -> Self {
        Self { on_processor, ..self }
    }

    /// What a job has come to; `None` while it computes as its settings say.
    ///
    /// # Errors
    /// The file cannot be read, or is none of these.
    pub fn read(job: &JobFolder) -> io::Result<Option<Self>> {
        let size = match fs::metadata(job.fallback()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?.len(),
        };
        let text = if size > MAX_BYTES { Vec::new() } else { fs::read(job.fallback())? };
        match serde_json::from_slice::<Self>(&text) {
            Ok(fallback) if fallback.batch_parts > 0 => Ok(Some(fallback)),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "batch_parts must be at least 1")),
            Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
        }
    }

    /// Has the engines of a job compute so from the next start on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, job: &JobFolder) -> io::Result<()> {
        files::write_json(&job.fallback(), self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(changes: Value) -> TrainingConfig {
        let mut request = json!({"task": "text-generation", "model_name": "m", "dataset": "d"});
        request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        TrainingConfig::from_json(request.as_object().unwrap()).unwrap()
    }

    /// Rows at once, batches a step and checkpointing, one after the other until nothing is left.
    fn steps(changes: Value) -> Vec<(u32, u32, bool)> {
        let config = config(changes);
        let all = std::iter::successors(Some(Fallback::none(&config)), |now| now.next(&config, false));
        all.map(|f| (f.per_device_train_batch_size, f.gradient_accumulation_steps, f.gradient_checkpointing))
            .collect()
    }

    #[test]
    fn batches_are_halved_first_and_then_layers_computed_twice() {
        let changes = json!({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "gradient_checkpointing": false});
        let want = [(8, 2, false), (4, 4, false), (2, 8, false), (1, 16, false), (1, 16, true)];
        assert_eq!(steps(changes), want, "rows times batches stay what the settings say");
        let changes = json!({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 1});
        assert_eq!(
            steps(changes),
            [(3, 1, true), (2, 2, true), (1, 3, true)],
            "no batch is larger than it was"
        );
    }

    #[test]
    fn a_card_gives_way_to_the_processor_last() {
        let config = config(json!({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}));
        let all =
            std::iter::successors(Some(Fallback::none(&config)), |now| now.next(&config, !now.on_processor));
        let all: Vec<_> = all.map(|f| (f.per_device_train_batch_size, f.on_processor)).collect();
        assert_eq!(all, [(2, false), (1, false), (1, true)], "single rows are tried on the card first");
        let lost = Fallback::none(&config).on_processor(true);
        let less = lost.next(&config, false).unwrap();
        assert!(less.on_processor && less.per_device_train_batch_size == 1, "it stays there: {less:?}");
        let told = serde_json::to_value(Fallback::none(&config)).unwrap();
        assert!(told.get("on_processor").is_none(), "a run that never left its device does not speak of it");
        assert_eq!(serde_json::from_value::<Fallback>(told).unwrap(), Fallback::none(&config));
    }

    #[test]
    fn of_the_smallest_batches_little_is_left_to_give_up() {
        let single = json!({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1});
        assert_eq!(steps(single).len(), 1, "there is nothing smaller");
        let joined = json!({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4});
        assert_eq!(steps(joined), [(1, 4, true), (1, 4, true)], "short rows are no more computed as one");
        let packed =
            json!({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "packing": true});
        assert_eq!(steps(packed), [(1, 4, true), (1, 8, true), (1, 16, true)], "bins are split");
    }

    #[test]
    fn it_is_kept_in_the_job_and_nothing_else_is_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path());
        assert_eq!(Fallback::read(&job).unwrap(), None);
        let config = config(json!({"per_device_train_batch_size": 4}));
        let fallback = Fallback::none(&config).next(&config, false).unwrap();
        fallback.write(&job).unwrap();
        assert_eq!(Fallback::read(&job).unwrap(), Some(fallback));
        for text in [
            "",
            "{}",
            "[1]",
            &serde_json::to_string(&fallback).unwrap().replace("\"batch_parts\":2", "\"batch_parts\":0"),
            &" ".repeat(5000),
        ] {
            files::write(&job.fallback(), text.as_bytes()).unwrap();
            assert_eq!(Fallback::read(&job).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:.30}");
        }
    }
}
