//! A linear layer that is trained as a whole beside the adapter: what PEFT lists in `modules_to_save`.

use candle_core::{DType, Result, Tensor, Var};

use crate::Pass;

/// A small linear layer such as a head. The base's own values stay, for answers without the adapter.
#[derive(Debug, Clone)]
pub struct TrainedLinear {
    weight: Tensor,
    bias: Option<Tensor>,
    trained: Option<Trained>,
    /// What is trained beside [`Pass::second`].
    second: Option<Trained>,
}

/// Weight and bias that are trained.
type Trained = (Var, Option<Var>);

impl TrainedLinear {
    /// A layer of weight `[out, in]` and perhaps a bias `[out]`, both computed with in f32.
    ///
    /// # Errors
    /// They cannot be widened.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let bias = bias.map(|bias| kernels::converted(bias, DType::F32)).transpose()?;
        Ok(Self { weight: kernels::converted(weight, DType::F32)?, bias, trained: None, second: None })
    }

    /// Begins to train it, from the base's values.
    ///
    /// # Errors
    /// The values cannot be copied.
    pub fn train(&mut self) -> Result<()> {
        let fresh = |values: &Tensor| Var::from_tensor(&values.copy()?);
        self.trained = Some((fresh(&self.weight)?, self.bias.as_ref().map(fresh).transpose()?));
        Ok(())
    }

    /// Goes back to the base's values.
    pub fn reset(&mut self) {
        self.trained = None;
    }

    /// Keeps what is trained for passes with the second adapter; nothing is trained in its place until then.
    pub(crate) fn shelve(&mut self) {
        self.second = self.trained.take();
    }

    /// Weight and bias that are trained, with their names within the layer.
    pub fn trained(&self) -> Vec<(&'static str, Var)> {
        self.trained
            .iter()
            .flat_map(|(weight, bias)| [Some(("weight", weight.clone())), bias.clone().map(|b| ("bias", b))])
            .flatten()
            .collect()
    }

    /// `[tokens, in]` → `[tokens, out]`, f32.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let x = x.to_dtype(DType::F32)?;
        let trained = pass.of(&self.trained, &self.second);
        let (weight, bias) = match trained {
            Some((weight, bias)) => (weight.as_tensor(), bias.as_ref().map(Var::as_tensor)),
            None => (&self.weight, self.bias.as_ref()),
        };
        let y = x.matmul(&weight.t()?)?;
        match bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}
