//! Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685) of a frozen linear layer, as PEFT computes it.

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::FrozenWeight;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{ModelError, Pass};

/// Settings of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the update.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Dropout on the adapter's input while training.
    pub dropout: f64,
    /// Names of the linear layers to adapt, such as `q_proj`; `None` adapts all of them.
    pub target_modules: Option<Vec<String>>,
}

impl LoraConfig {
    /// Fails when a setting makes no sense.
    pub fn check(&self) -> std::result::Result<(), ModelError> {
        let wrong = |field, problem: String| Err(ModelError::Lora { field, problem });
        if !(1..=4096).contains(&self.rank) {
            return wrong("rank", format!("must be between 1 and 4096, not {}", self.rank));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong("alpha", format!("must be above 0, not {}", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", format!("must be at least 0 and below 1, not {}", self.dropout));
        }
        if self.target_modules.as_ref().is_some_and(Vec::is_empty) {
            return wrong("target_modules", "must name a module, or be left out for all of them".into());
        }
        Ok(())
    }
}

/// The trainable part of an adapted layer, always f32.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// `[rank, in]`.
    pub a: Var,
    /// `[out, rank]`.
    pub b: Var,
    /// `alpha / rank`.
    pub scale: f64,
    /// Dropout on the input while training.
    pub dropout: f32,
}

impl Adapter {
    /// A fresh adapter, which changes nothing yet: A uniform in `±1 / sqrt(in)` (Kaiming with a = √5), B zero.
    ///
    /// `module` chooses the random stream, so that the values do not depend on the order of the modules.
    pub fn new(
        config: &LoraConfig,
        out: usize,
        inputs: usize,
        module: &str,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream(module));
        let bound = 1.0 / (inputs as f32).sqrt();
        let a: Vec<f32> = (0..config.rank * inputs).map(|_| unit(random.next_u32()) * bound).collect();
        let a = Tensor::from_vec(a, (config.rank, inputs), device)?;
        let b = Tensor::zeros((out, config.rank), DType::F32, device)?;
        Self::from_tensors(&a, &b, config)
    }

    /// An adapter with these values.
    pub fn from_tensors(a: &Tensor, b: &Tensor, config: &LoraConfig) -> Result<Self> {
        Ok(Adapter {
            a: Var::from_tensor(a)?,
            b: Var::from_tensor(b)?,
            scale: config.alpha / config.rank as f64,
            dropout: config.dropout as f32,
        })
    }

    /// Puts it beside the weight that it belongs to.
    pub(crate) fn move_to(&mut self, device: &Device) -> Result<()> {
        for part in [&mut self.a, &mut self.b] {
            if !part.device().same_device(device) {
                *part = Var::from_tensor(&part.to_device(device)?)?;
            }
        }
        Ok(())
    }

    /// `scale · B A dropout(x)` in f32: `[tokens, in]` → `[tokens, out]`.
    fn update(&self, x: &Tensor, dropout_seed: Option<u64>) -> Result<Tensor> {
        let x = if x.dtype() == DType::F32 { x.clone() } else { x.to_dtype(DType::F32)? };
        let x = match dropout_seed {
            Some(seed) => kernels::dropout(&x, self.dropout, seed)?,
            None => x,
        };
        (x.matmul(&self.a.t()?)? * self.scale)?.matmul(&self.b.t()?)
    }
}

/// A linear layer: a frozen weight, perhaps a frozen bias, perhaps an adapter.
#[derive(Debug, Clone)]
pub struct LoraLinear {
    weight: FrozenWeight,
    bias: Option<Tensor>,
    adapter: Option<Adapter>,
    /// The adapter of passes with [`Pass::second`].
    second: Option<Adapter>,
    /// Tells this layer's dropout apart from that of the others.
    stream: u64,
}

impl LoraLinear {
    /// A layer of weight `[out, in]` and bias `[out]`; `path` is its name in the model, such as
    /// `model.layers.0.self_attn.q_proj`.
    pub fn new(path: &str, weight: impl Into<FrozenWeight>, bias: Option<Tensor>) -> Self {
        LoraLinear { weight: weight.into(), bias, adapter: None, second: None, stream: stream(path) }
    }

    /// Shape of the weight: `(out, in)`.
    pub fn shape(&self) -> Result<(usize, usize)> {
        self.weight.dims2()
    }

    /// Its frozen weight.
    pub fn weight(&self) -> &FrozenWeight {
        &self.weight
    }

    /// Its adapter.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Gives it an adapter, or takes it away.
    pub fn set_adapter(&mut self, adapter: Option<Adapter>) {
        self.adapter = adapter;
    }

    /// Keeps the adapter for passes with the second one; there is none in its place until one is set.
    pub(crate) fn shelve(&mut self) {
        self.second = self.adapter.take();
    }

    /// The same layer as a part of a fused decoder layer, and the factor of its adapter.
    pub(crate) fn part(&self, pass: Pass) -> (kernels::LayerLinear, f32) {
        let adapter = pass.of(&self.adapter, &self.second);
        let linear = kernels::LayerLinear {
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            adapter: adapter.map(|a| (a.a.as_tensor().clone(), a.b.as_tensor().clone())),
            dropout: adapter.zip(pass.dropout_seed).map(|(a, seed)| (a.dropout, seed ^ self.stream)),
        };
        (linear, adapter.map_or(1.0, |a| a.scale as f32))
    }

    /// `[tokens, in]` → `[tokens, out]`, in the dtype of `x`. In bf16 the adapter computes in f32 and the sum is rounded
    /// once, as PEFT does with an f32 adapter on a bf16 model.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let y = kernels::frozen_linear(x, &self.weight)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(&kernels::converted(bias, y.dtype())?)?,
            None => y,
        };
        let Some(adapter) = pass.of(&self.adapter, &self.second) else { return Ok(y) };
        let update = adapter.update(x, pass.dropout_seed.map(|seed| seed ^ self.stream))?;
        if y.dtype() == DType::F32 {
            y + update
        } else {
            (y.to_dtype(DType::F32)? + update)?.to_dtype(y.dtype())
        }
    }
}

/// A number that stands for a name: FNV-1a, 64 bits.
fn stream(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// 24 random bits as a number in [−1, 1).
fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}
