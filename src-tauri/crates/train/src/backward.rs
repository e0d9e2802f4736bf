//! The loss of a micro-batch and its gradients, in one of two ways that give the same numbers.
//!
//! Without gradient checkpointing the whole computation stays on candle's tape. With it only the input of each layer is
//! kept, and in the backward pass each layer is computed once more (Chen et al. 2016, arXiv:1604.06174): the same dropout
//! seed gives the same masks again. On a card these inputs may wait in the machine's memory, copied there and back while layers are
//! computed (as TRL's `activation_offloading`).

use candle_core::{Tensor, Var};
use data::Batch;
use models::{Model, Pass};

use crate::{
    TrainError,
    chain::{Chain, State, chain},
    gradients::Gradients,
    metrics::Observed,
    strategies::{Loss, Strategy},
};

/// Computes losses and gradients of one model under one strategy.
pub struct Backward<'a> {
    /// The model with its adapter.
    pub model: &'a dyn Model,
    /// What the loss is.
    pub strategy: &'a dyn Strategy,
    /// What is trained, as [`Model::trainable`] lists it.
    pub trainable: &'a [(String, Var)],
    /// Keep layer inputs only.
    pub checkpointing: bool,
    /// Keep them in the machine's memory.
    pub offload: bool,
}

/// The loss of a batch, as numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    /// Summed over its terms.
    pub sum: f64,
    /// What else the strategy saw.
    pub observed: Observed,
}

impl Computed {
    fn of(loss: Loss) -> Result<Self, TrainError> {
        Ok(Self { sum: f64::from(loss.sum.to_scalar::<f32>()?), observed: loss.observed })
    }
}

impl Backward<'_> {
    /// The loss of a batch without gradients.
    ///
    /// # Errors
    /// The model cannot compute the batch.
    pub fn loss(&self, batch: &Batch) -> Result<Computed, TrainError> {
        let chain = chain(self.model, batch);
        let mut state = chain.start()?;
        for index in 0..chain.len() {
            state = detached(chain.layer(index, &state, Pass::EVAL)?);
        }
        let output = chain.end(&state)?.detach();
        Computed::of(self.strategy.loss(self.model, &output, batch, Pass::EVAL)?)
    }

    /// The loss of a batch; the gradient of `scale` times that sum is added to `gradients`.
    ///
    /// # Errors
    /// The model cannot compute the batch, or a tensor of the adapter receives no gradient.
    pub fn run(
        &self,
        batch: &Batch,
        pass: Pass,
        scale: f64,
        gradients: &mut Gradients,
    ) -> Result<Computed, TrainError> {
        let chain = chain(self.model, batch);
        let mut collected = Collected {
            #[cfg(feature = "cuda")]
            beside: gradients.beside(),
            gradients,
            received: vec![false; self.trainable.len()],
        };
        let loss = if self.checkpointing {
            self.layer_by_layer(chain.as_ref(), batch, pass, scale, &mut collected)?
        } else {
            self.whole(chain.as_ref(), batch, pass, scale, &mut collected)?
        };
        match collected.received.iter().zip(self.trainable).find(|(received, _)| !**received) {
            Some((_, (name, _))) => Err(TrainError::NoGradient(name.clone())),
            None => Ok(loss),
        }
    }

    fn whole(
        &self,
        chain: &dyn Chain,
        batch: &Batch,
        pass: Pass,
        scale: f64,
        collected: &mut Collected<'_>,
    ) -> Result<Computed, TrainError> {
        let mut state = chain.start()?;
        for index in 0..chain.len() {
            state = chain.layer(index, &state, pass)?;
        }
        let loss = self.strategy.loss(self.model, &chain.end(&state)?, batch, pass)?;
        self.collect(&(&loss.sum * scale)?, &[], collected)?;
        Computed::of(loss)
    }

    fn layer_by_layer(
        &self,
        chain: &dyn Chain,
        batch: &Batch,
        pass: Pass,
        scale: f64,
        collected: &mut Collected<'_>,
    ) -> Result<Computed, TrainError> {
        let mut state = chain.start()?;
        let mut inputs = Inputs::new(self.offload, chain.len());
        for index in 0..chain.len() {
            inputs.push(&state)?;
            state = detached(chain.layer(index, &state, pass)?);
        }

        inputs.call_back()?;
        let top = variables(&state)?;
        let loss = self.strategy.loss(self.model, &chain.end(&tensors(&top))?, batch, pass)?;
        let mut gradient = self.collect(&(&loss.sum * scale)?, &top, collected)?;

        while let Some((index, input)) = inputs.pop()? {
            if gradient.iter().all(Option::is_none) {
                break;
            }
            // It comes while this layer is computed.
            inputs.call_back()?;
            // Embeddings are frozen: nothing below the first layer wants a gradient.
            let input = if index == 0 { Below::Nothing(input) } else { Below::Layers(variables(&input)?) };
            let output = chain.layer(index, &input.tensors(), pass)?;
            let Some(scalar) = seeded(&output, gradient)? else { break };
            gradient = self.collect(&scalar, input.variables(), collected)?;
        }
        Computed::of(loss)
    }

    /// Goes back from `scalar`, adds what reaches the adapter to the gradients, and returns what reaches each of `inputs`.
    fn collect(
        &self,
        scalar: &Tensor,
        inputs: &[Var],
        collected: &mut Collected<'_>,
    ) -> Result<Vec<Option<Tensor>>, TrainError> {
        let mut found = scalar.backward()?;
        for (index, ((_, var), received)) in self.trainable.iter().zip(&mut collected.received).enumerate() {
            if let Some(gradient) = found.remove(var) {
                collected.gradients.add(index, &gradient)?;
                *received = true;
            }
        }
        #[cfg(feature = "cuda")]
        if let Some(beside) = &collected.beside {
            let index = |id| self.trainable.iter().position(|(_, var)| var.id() == id);
            for part in beside.take() {
                for added in collected.gradients.add_part(&part, index)? {
                    collected.received[added] = true;
                }
            }
        }
        Ok(inputs.iter().map(|input| found.remove(input)).collect())
    }
}

/// Where gradients go.
struct Collected<'a> {
    /// Of adapters on a card.
    #[cfg(feature = "cuda")]
    beside: Option<kernels::Beside>,
    gradients: &'a mut Gradients,
    /// Which tensors got one.
    received: Vec<bool>,
}

/// The inputs of layers that wait for the backward pass.
struct Inputs {
    kept: Vec<Kept>,
    offload: Option<kernels::Offload>,
}

/// The input of a layer.
enum Kept {
    Here(State),
    Away(Vec<kernels::Offloaded>),
}

impl Inputs {
    fn new(offload: bool, layers: usize) -> Self {
        Inputs { kept: Vec::with_capacity(layers), offload: offload.then(Default::default) }
    }

    fn push(&mut self, state: &State) -> Result<(), TrainError> {
        self.kept.push(match &mut self.offload {
            None => Kept::Here(state.clone()),
            Some(offload) => Kept::Away(
                state.iter().map(|tensor| offload.send(tensor)).collect::<candle_core::Result<_>>()?,
            ),
        });
        Ok(())
    }

    /// Begins to bring back the one that is wanted next.
    fn call_back(&mut self) -> Result<(), TrainError> {
        if let Some(Kept::Away(tensors)) = self.kept.last_mut() {
            tensors.iter_mut().try_for_each(kernels::Offloaded::call_back)?;
        }
        Ok(())
    }

    /// The last one, and the layer it is of.
    fn pop(&mut self) -> Result<Option<(usize, State)>, TrainError> {
        let state = match self.kept.pop() {
            None => return Ok(None),
            Some(Kept::Here(state)) => state,
            Some(Kept::Away(tensors)) => {
                tensors.into_iter().map(kernels::Offloaded::take).collect::<candle_core::Result<_>>()?
            }
        };
        Ok(Some((self.kept.len(), state)))
    }
}

/// A layer's input when it is computed again.
enum Below {
    /// Of the first layer.
    Nothing(State),
    /// Of a layer whose gradient goes on downwards.
    Layers(Vec<Var>),
}

impl Below {
    fn tensors(&self) -> State {
        match self {
            Below::Nothing(state) => state.clone(),
            Below::Layers(variables) => tensors(variables),
        }
    }

    fn variables(&self) -> &[Var] {
        match self {
            Below::Nothing(_) => &[],
            Below::Layers(variables) => variables,
        }
    }
}

fn detached(state: State) -> State {
    state.iter().map(Tensor::detach).collect()
}

fn variables(state: &[Tensor]) -> Result<Vec<Var>, TrainError> {
    Ok(state.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?)
}

fn tensors(variables: &[Var]) -> State {
    variables.iter().map(|variable| variable.as_tensor().clone()).collect()
}

/// A scalar whose backward pass gives each of `output` its gradient; `None` where there is none at all.
fn seeded(output: &[Tensor], gradients: Vec<Option<Tensor>>) -> Result<Option<Tensor>, TrainError> {
    let mut scalar: Option<Tensor> = None;
    for (output, gradient) in output.iter().zip(gradients) {
        let Some(gradient) = gradient else { continue };
        let one = kernels::seed(output, &gradient)?;
        scalar = Some(match scalar {
            Some(sum) => (sum + one)?,
            None => one,
        });
    }
    Ok(scalar)
}
