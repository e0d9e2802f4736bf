//! AdamW with 32-bit state.

use std::path::Path;

use kernels::{AdamWStep, Pages};

use super::{Optimizer, Parameter, StateEntry, StateValues};

/// Elements from which on state is worth a file of its own, as in bitsandbytes.
const PAGED: usize = 100_000;

/// AdamW with both moving means in full; see [`AdamWStep`].
pub struct AdamW {
    weight_decay: f64,
    exp_avg: Pages,
    exp_avg_sq: Pages,
    /// Whether state may leave memory: into files, or on a card into the machine's memory.
    paged: bool,
    /// Both means on a card, as long as they are newer there.
    #[cfg(feature = "cuda")]
    on_card: Option<kernels::Moments>,
}

impl AdamW {
    /// Both means start at zero.
    pub fn new(parameter: Parameter) -> Self {
        let zeros = || Pages::zeros(parameter.len);
        Self {
            weight_decay: parameter.weight_decay,
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            paged: false,
            #[cfg(feature = "cuda")]
            on_card: None,
        }
    }

    /// The same with state that may leave memory.
    pub fn paged(parameter: Parameter) -> Self {
        Self { paged: true, ..Self::new(parameter) }
    }
}

impl Optimizer for AdamW {
    fn update(&mut self, weights: &mut [f32], gradient: &[f32], step: u64, learning_rate: f64) -> bool {
        let step = AdamWStep::new(step, learning_rate, self.weight_decay);
        step.apply(weights, gradient, &mut self.exp_avg, &mut self.exp_avg_sq)
    }

    #[cfg(feature = "cuda")]
    fn update_on_card(
        &mut self,
        weights: &candle_core::Var,
        (gradients, index): (&kernels::CardGradients, usize),
        step: u64,
        learning_rate: f64,
    ) -> candle_core::Result<bool> {
        let moments = match self.on_card.take() {
            Some(moments) => moments,
            None => {
                let paged = self.paged && self.exp_avg.len() >= PAGED;
                kernels::Moments::new(weights.device(), (&self.exp_avg, &self.exp_avg_sq), paged)?
            }
        };
        let step = AdamWStep::new(step, learning_rate, self.weight_decay);
        kernels::adamw_on_card(step, weights, gradients, index, self.on_card.insert(moments))?;
        // Whether all weights are finite is asked once a step, of the gradients.
        Ok(true)
    }

    #[cfg(feature = "cuda")]
    fn leave_card(&mut self) -> candle_core::Result<()> {
        match self.on_card.take() {
            Some(moments) => moments.read((&mut self.exp_avg, &mut self.exp_avg_sq)),
            None => Ok(()),
        }
    }

    fn page(&mut self, folder: &Path) {
        if !self.paged || self.exp_avg.len() < PAGED {
            return;
        }
        for state in [&mut self.exp_avg, &mut self.exp_avg_sq] {
            // Where there is no room for a file, the state stays where it is.
            let _ = tempfile::tempfile_in(folder).and_then(|file| state.move_to(&file));
        }
    }

    fn state(&mut self) -> Vec<StateEntry<'_>> {
        vec![
            StateEntry { name: "exp_avg", values: StateValues::F32(&mut self.exp_avg) },
            StateEntry { name: "exp_avg_sq", values: StateValues::F32(&mut self.exp_avg_sq) },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::tests::check;

    #[test]
    fn paged_state_is_in_files_and_computes_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for (len, mapped) in [(PAGED, true), (PAGED - 1, false)] {
            let parameter = Parameter { len, weight_decay: 0.01 };
            let (mut plain, mut paged) = (AdamW::new(parameter), AdamW::paged(parameter));
            let (mut want, mut got) = (vec![0.5; len], vec![0.5; len]);
            for step in 1..4 {
                let gradient: Vec<f32> = (0..len).map(|i| (i as f32 + step as f32).sin()).collect();
                plain.update(&mut want, &gradient, step, 1e-2);
                paged.update(&mut got, &gradient, step, 1e-2);
                // In the middle of a run, as after a checkpoint has been read.
                paged.page(folder.path());
                plain.page(folder.path());
            }
            assert_eq!(got, want);
            assert_eq!((paged.exp_avg.are_mapped(), paged.exp_avg_sq.are_mapped()), (mapped, mapped));
            assert!(!plain.exp_avg.are_mapped(), "only where it was asked for");
        }
        let mut nowhere = AdamW::paged(Parameter { len: PAGED, weight_decay: 0.0 });
        nowhere.page(&folder.path().join("missing"));
        assert!(!nowhere.exp_avg.are_mapped(), "without a folder state stays in memory");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file has a name");
    }

    #[test]
    fn equals_torch() {
        check(|p| Box::new(AdamW::new(p)), 0.0, [0.48000196, -0.24415766, 0.9793351, -0.021637408]);
        check(|p| Box::new(AdamW::new(p)), 0.1, [0.47852916, -0.24342339, 0.9763666, -0.02160964]);
    }
}
