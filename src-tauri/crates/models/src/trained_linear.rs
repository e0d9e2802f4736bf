//! A linear layer that is trained as a whole beside the adapter: what PEFT lists in `modules_to_save`.

use candle_core::{DType, Result, Tensor, Var};

use crate::Pass;

/// A small linear layer such as a head. The base's own values stay, for answers without the adapter.
#[derive(Debug, Clone)]
pub struct TrainedLinear {
    weight: Tensor,
    bias: Tensor,
    trained: Option<(Var, Var)>,
}

impl TrainedLinear {
    /// A layer of weight `[out, in]` and bias `[out]`, both computed with in f32.
    ///
    /// # Errors
    /// They cannot be widened.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self { weight: weight.to_dtype(DType::F32)?, bias: bias.to_dtype(DType::F32)?, trained: None })
    }

    /// Begins to train it, from the base's values.
    ///
    /// # Errors
    /// The values cannot be copied.
    pub fn train(&mut self) -> Result<()> {
        self.trained = Some((Var::from_tensor(&self.weight.copy()?)?, Var::from_tensor(&self.bias.copy()?)?));
        Ok(())
    }

    /// Goes back to the base's values.
    pub fn reset(&mut self) {
        self.trained = None;
    }

    /// Weight and bias that are trained, with their names within the layer.
    pub fn trained(&self) -> Vec<(&'static str, Var)> {
        self.trained
            .iter()
            .flat_map(|(weight, bias)| [("weight", weight.clone()), ("bias", bias.clone())])
            .collect()
    }

    /// `[tokens, in]` → `[tokens, out]`, f32.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let x = x.to_dtype(DType::F32)?;
        match self.trained.as_ref().filter(|_| pass.adapter) {
            Some((weight, bias)) => x.matmul(&weight.t()?)?.broadcast_add(bias),
            None => x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias),
        }
    }
}
