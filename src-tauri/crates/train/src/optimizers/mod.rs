//! Optimizers: what turns gradients into new weights.
//!
//! One optimizer updates one tensor, so that several tensors can be updated at once. They work on plain slices: a
//! checkpoint needs their state as bytes anyway.

mod adamw;
mod adamw_8bit;
mod sgd;

use std::path::Path;

use types::Optim;

use crate::TrainError;

/// One tensor to train, as an optimizer is told of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Elements.
    pub len: usize,
    /// Weight decay in force: that of the run, or 0 where [`decays`] says no.
    pub weight_decay: f64,
}

/// Updates the weights of one tensor and keeps what it must remember from step to step.
pub trait Optimizer: Send {
    /// Updates the weights where they are by their gradient. `step` counts from 1. False if a new weight is not finite.
    fn update(&mut self, weights: &mut [f32], gradient: &[f32], step: u64, learning_rate: f64) -> bool;

    /// The same of a variable on a card, by one of the gradients there. What has no way of its own there goes through the machine's
    /// memory.
    ///
    /// # Errors
    /// The card fails.
    #[cfg(feature = "cuda")]
    fn update_on_card(
        &mut self,
        weights: &candle_core::Var,
        (gradients, index): (&kernels::CardGradients, usize),
        step: u64,
        learning_rate: f64,
    ) -> candle_core::Result<bool> {
        let mut values = weights.flatten_all()?.to_vec1::<f32>()?;
        let finite = self.update(&mut values, &gradients.to_vec(index)?, step, learning_rate);
        weights.set(&candle_core::Tensor::from_vec(values, weights.shape(), weights.device())?)?;
        Ok(finite)
    }

    /// Brings what it keeps on a card into the machine's memory, where [`state`](Self::state) finds it.
    ///
    /// # Errors
    /// The card fails.
    fn leave_card(&mut self) -> candle_core::Result<()> {
        Ok(())
    }

    /// Moves large state into files of `folder` without a name, from where it may leave memory; where an optimizer's state does
    /// that.
    fn page(&mut self, _folder: &Path) {}

    /// Everything remembered, for a checkpoint to copy out or in. Always the same entries in the same order.
    fn state(&mut self) -> Vec<StateEntry<'_>>;
}

/// A piece of an optimizer's memory.
#[derive(Debug)]
pub struct StateEntry<'a> {
    /// Such as `exp_avg`.
    pub name: &'static str,
    /// The numbers.
    pub values: StateValues<'a>,
}

/// Numbers of a [`StateEntry`].
#[derive(Debug, PartialEq)]
pub enum StateValues<'a> {
    /// In full.
    F32(&'a mut [f32]),
    /// Indices into a code book.
    U8(&'a mut [u8]),
}

/// How an optimizer is made.
pub struct OptimizerEntry {
    /// The setting that picks it.
    pub name: Optim,
    /// Makes one for a tensor, which has seen nothing yet.
    pub build: fn(Parameter) -> Box<dyn Optimizer>,
}

/// Every optimizer.
///
/// `paged_adamw_32bit` is AdamW whose state may leave memory: that of large tensors is in files of the job folder, mapped into
/// memory, which the system writes back and lets go of when memory is short. On a card it is in managed memory, whose pages the driver
/// moves to the machine's memory when the card's is short.
pub const OPTIMIZERS: &[OptimizerEntry] = &[
    OptimizerEntry { name: Optim::AdamwTorch, build: |p| Box::new(adamw::AdamW::new(p)) },
    OptimizerEntry { name: Optim::Adamw8bit, build: adamw_8bit::build },
    OptimizerEntry { name: Optim::PagedAdamw32bit, build: |p| Box::new(adamw::AdamW::paged(p)) },
    OptimizerEntry { name: Optim::Sgd, build: |p| Box::new(sgd::Sgd::new(p)) },
];

/// An optimizer for each tensor, of the kind a setting picks.
pub(crate) fn build(
    name: Optim,
    parameters: impl Iterator<Item = Parameter>,
) -> Result<Vec<Box<dyn Optimizer>>, TrainError> {
    let entry = OPTIMIZERS.iter().find(|entry| entry.name == name);
    let entry = entry.ok_or(TrainError::NotAvailable { field: "optim", value: name.name() })?;
    Ok(parameters.map(entry.build).collect())
}

/// Whether weight decay applies to a tensor: to all but biases and the weights of norms, as in transformers.
pub fn decays(name: &str) -> bool {
    !(name.ends_with(".bias") || name.contains("norm"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const START: [f32; 4] = [0.5, -0.25, 1.0, 0.001];
    const GRADIENTS: [[f32; 4]; 5] = [
        [0.1, -0.2, 0.3, 1e-6],
        [-0.05, 0.4, 0.0, 2e-6],
        [0.2, 0.2, -0.1, -1e-6],
        [1.0, -1.0, 0.5, 0.0],
        [0.01, 0.02, 0.03, 1e-5],
    ];
    const LEARNING_RATES: [f64; 5] = [1e-2, 8e-3, 6e-3, 4e-3, 2e-3];

    /// Five steps with fixed gradients and a falling learning rate, compared with what torch 2.15 makes of them.
    pub(crate) fn check(build: fn(Parameter) -> Box<dyn Optimizer>, weight_decay: f64, torch: [f32; 4]) {
        let mut optimizer = build(Parameter { len: 4, weight_decay });
        let mut weights = START;
        for (i, (gradient, rate)) in GRADIENTS.iter().zip(LEARNING_RATES).enumerate() {
            optimizer.update(&mut weights, gradient, i as u64 + 1, rate);
        }
        for (got, want) in weights.iter().zip(torch) {
            assert!(
                (got - want).abs() <= 2e-7 * want.abs().max(0.1),
                "weight decay {weight_decay}: {weights:?}, torch gives {torch:?}"
            );
        }
    }

    #[test]
    fn every_setting_has_its_optimizer() {
        let names: Vec<Optim> = OPTIMIZERS.iter().map(|o| o.name).collect();
        assert_eq!(names, Optim::ALL, "one optimizer for each value of optim, in its order");
    }

    #[test]
    fn an_optimizer_goes_on_from_its_state_as_if_never_interrupted() {
        fn steps(optimizer: &mut dyn Optimizer, weights: &mut [f32], range: std::ops::Range<u64>) {
            for step in range {
                let gradient: Vec<f32> =
                    (0..weights.len()).map(|i| ((i as f32 * 0.37 + step as f32).sin()) * 0.1).collect();
                optimizer.update(weights, &gradient, step, 1e-2);
            }
        }
        for (entry, len) in OPTIMIZERS.iter().flat_map(|entry| [(entry, 5000), (entry, 7)]) {
            let parameter = Parameter { len, weight_decay: 0.01 };
            let mut whole = (entry.build)(parameter);
            let mut want = vec![0.5; len];
            steps(whole.as_mut(), &mut want, 1..9);

            let mut first = (entry.build)(parameter);
            let mut got = vec![0.5; len];
            steps(first.as_mut(), &mut got, 1..5);
            let mut second = (entry.build)(parameter);
            for (from, to) in first.state().into_iter().zip(second.state()) {
                assert_eq!(from.name, to.name, "{}: entries keep their order", entry.name);
                match (from.values, to.values) {
                    (StateValues::F32(from), StateValues::F32(to)) => to.copy_from_slice(from),
                    (StateValues::U8(from), StateValues::U8(to)) => to.copy_from_slice(from),
                    (from, to) => panic!("{}: an entry keeps its type: {from:?} {to:?}", entry.name),
                }
            }
            steps(second.as_mut(), &mut got, 5..9);
            assert_eq!(got, want, "{}: all of an optimizer's memory is in its state", entry.name);
        }
    }

    #[test]
    fn every_optimizer_tells_of_a_weight_that_is_not_finite() {
        for (entry, len) in OPTIMIZERS.iter().flat_map(|entry| [(entry, 5000), (entry, 7)]) {
            for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 3), (f32::NEG_INFINITY, len - 1)] {
                let mut optimizer = (entry.build)(Parameter { len, weight_decay: 0.0 });
                let (mut weights, gradient) = (vec![0.5; len], vec![0.1; len]);
                assert!(optimizer.update(&mut weights, &gradient, 1, 1e-3), "{}: all are finite", entry.name);
                weights[at] = bad;
                assert!(!optimizer.update(&mut weights, &gradient, 2, 1e-3), "{}: {bad} at {at}", entry.name);
            }
        }
    }

    #[test]
    fn norms_and_biases_do_not_decay() {
        let lora = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        for (name, want) in [(lora, true), ("model.norm.weight", false), ("layers.0.q_proj.bias", false)] {
            assert_eq!(decays(name), want, "{name}");
        }
    }
}
