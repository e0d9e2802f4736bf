//! The loss of a micro-batch and its gradients, in one of two ways that give the same numbers.
//!
//! Without gradient checkpointing the whole computation stays on candle's tape. With it only the input of each layer is
//! kept, and in the backward pass each layer is computed once more (Chen et al. 2016, arXiv:1604.06174): the same dropout
//! seed gives the same masks again.

use candle_core::{Tensor, Var};
use data::Batch;
use models::{CausalLm, Pass, Sequences};

use crate::{TrainError, gradients::Gradients, strategies::Strategy};

/// Computes losses and gradients of one model under one strategy.
pub struct Backward<'a> {
    /// The model with its adapter.
    pub model: &'a dyn CausalLm,
    /// What the loss is.
    pub strategy: &'a dyn Strategy,
    /// The adapter, as [`CausalLm::trainable`] lists it.
    pub trainable: &'a [(String, Var)],
    /// Keep layer inputs only.
    pub checkpointing: bool,
}

impl Backward<'_> {
    /// The summed loss of a batch without gradients.
    ///
    /// # Errors
    /// The model cannot compute the batch.
    pub fn loss(&self, batch: &Batch) -> Result<f64, TrainError> {
        let (mut hidden, sequences) = self.embed(batch)?;
        for index in 0..self.model.info().layers {
            hidden = self.model.layer(index, &hidden, &sequences, Pass::EVAL, None)?.detach();
        }
        let hidden = self.model.final_norm(&hidden)?.detach();
        Ok(f64::from(self.strategy.loss(self.model, &hidden, batch)?.to_scalar::<f32>()?))
    }

    /// The summed loss of a batch; the gradient of `scale` times that sum is added to `gradients`.
    ///
    /// # Errors
    /// The model cannot compute the batch, or a tensor of the adapter receives no gradient.
    pub fn run(
        &self,
        batch: &Batch,
        pass: Pass,
        scale: f64,
        gradients: &mut Gradients,
    ) -> Result<f64, TrainError> {
        let mut received = vec![false; self.trainable.len()];
        let loss = if self.checkpointing {
            self.layer_by_layer(batch, pass, scale, gradients, &mut received)?
        } else {
            self.whole(batch, pass, scale, gradients, &mut received)?
        };
        match received.iter().zip(self.trainable).find(|(received, _)| !**received) {
            Some((_, (name, _))) => Err(TrainError::NoGradient(name.clone())),
            None => Ok(loss),
        }
    }

    fn whole(
        &self,
        batch: &Batch,
        pass: Pass,
        scale: f64,
        gradients: &mut Gradients,
        received: &mut [bool],
    ) -> Result<f64, TrainError> {
        let (mut hidden, sequences) = self.embed(batch)?;
        for index in 0..self.model.info().layers {
            hidden = self.model.layer(index, &hidden, &sequences, pass, None)?;
        }
        let loss = self.strategy.loss(self.model, &self.model.final_norm(&hidden)?, batch)?;
        self.collect(&(&loss * scale)?, None, gradients, received)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }

    fn layer_by_layer(
        &self,
        batch: &Batch,
        pass: Pass,
        scale: f64,
        gradients: &mut Gradients,
        received: &mut [bool],
    ) -> Result<f64, TrainError> {
        let layers = self.model.info().layers;
        let (mut hidden, sequences) = self.embed(batch)?;
        let mut inputs = Vec::with_capacity(layers);
        for index in 0..layers {
            let output = self.model.layer(index, &hidden, &sequences, pass, None)?.detach();
            inputs.push(std::mem::replace(&mut hidden, output));
        }

        let top = Var::from_tensor(&hidden)?;
        let loss = self.strategy.loss(self.model, &self.model.final_norm(&top)?, batch)?;
        let mut gradient = self.collect(&(&loss * scale)?, Some(&top), gradients, received)?;

        while let Some(input) = inputs.pop() {
            let index = inputs.len();
            let Some(upstream) = gradient else { break };
            if index == 0 {
                // Embeddings are frozen: nothing below the first layer wants a gradient.
                let output = self.model.layer(index, &input, &sequences, pass, None)?;
                gradient = self.collect(&kernels::seed(&output, &upstream)?, None, gradients, received)?;
            } else {
                let input = Var::from_tensor(&input)?;
                let output = self.model.layer(index, &input, &sequences, pass, None)?;
                gradient =
                    self.collect(&kernels::seed(&output, &upstream)?, Some(&input), gradients, received)?;
            }
        }
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }

    fn embed(&self, batch: &Batch) -> Result<(Tensor, Sequences), TrainError> {
        let ids = Tensor::from_slice(&batch.ids, batch.ids.len(), self.model.device())?;
        Ok((self.model.embed(&ids)?.detach(), Sequences::new(batch.lengths.clone())))
    }

    /// Goes back from `scalar`, adds what reaches the adapter to `gradients`, and returns what reaches `input`.
    fn collect(
        &self,
        scalar: &Tensor,
        input: Option<&Var>,
        gradients: &mut Gradients,
        received: &mut [bool],
    ) -> Result<Option<Tensor>, TrainError> {
        let mut found = scalar.backward()?;
        for (index, ((_, var), received)) in self.trainable.iter().zip(received).enumerate() {
            if let Some(gradient) = found.remove(var) {
                gradients.add(index, &gradient)?;
                *received = true;
            }
        }
        Ok(input.and_then(|input| found.remove(input)))
    }
}
