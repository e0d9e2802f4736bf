//! How far a run is: all of its state but the weights and the optimizer's memory.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{batches::Cursor, evaluation::Best, loss_scale::LossScale, metrics::WINDOW};

/// What a run has done so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// The place in the data.
    pub cursor: Cursor,
    /// Tokens computed.
    pub tokens: u64,
    /// Of those, tokens the loss counted.
    pub trained_tokens: u64,
    /// Time taken, all parts of a resumed run together.
    pub elapsed_ms: u64,
    /// The losses of the last steps, oldest first.
    pub last_losses: Vec<Exact>,
    /// The step the metrics below were measured after.
    pub evaluated: Option<u64>,
    /// The newest evaluation.
    pub metrics: BTreeMap<String, Exact>,
    /// The evaluation before the first step.
    #[serde(default)]
    pub base_metrics: BTreeMap<String, Exact>,
    /// Rows whose answers were scored in the newest evaluation.
    #[serde(default)]
    pub answered_rows: Option<u64>,
    /// The best evaluation, where one is looked for.
    #[serde(default)]
    pub best: Option<Best>,
    /// Evaluations since then.
    #[serde(default)]
    pub no_better: u32,
    /// Where it learns from rewards: the weight of the divergence, once it was adapted.
    #[serde(default)]
    pub kl_coef: Option<Exact>,
    /// How many of the last rollouts, one after the other, had no words.
    #[serde(default)]
    pub empty_rollouts: u32,
    /// Where gradients are in f16: what the loss is multiplied by.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
}

impl Progress {
    /// Appends a step's loss and forgets the one that falls out of the window.
    pub fn push_loss(&mut self, loss: f64) {
        if self.last_losses.len() >= WINDOW {
            self.last_losses.remove(0);
        }
        self.last_losses.push(Exact(loss));
    }
}

/// A number that comes back from JSON to the last bit: it is written as text, because a JSON number may be rounded when it is
/// read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exact(pub f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0 as &dyn Display)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        f64::from_str(&text).map(Exact).map_err(|_| D::Error::custom(format!("{text:?} is not a number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_a_checkpoint_to_the_bit() {
        for x in [0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE, 6.755399441055744e15, 2.225073858507201e-308] {
            let text = serde_json::to_string(&Exact(x)).unwrap();
            let again: Exact = serde_json::from_str(&text).unwrap();
            assert_eq!(again.0.to_bits(), x.to_bits(), "{text}");
        }
    }

    #[test]
    fn only_the_last_losses_are_kept() {
        let mut progress = Progress::default();
        (0..WINDOW + 3).for_each(|i| progress.push_loss(i as f64));
        assert_eq!(progress.last_losses.len(), WINDOW);
        assert_eq!(progress.last_losses[0], Exact(3.0), "the oldest goes first");
    }
}
