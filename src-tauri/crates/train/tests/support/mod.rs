//! Small random models on disk, settings and batches that the tests and benches of this crate share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, sync::Mutex};

use candle_core::{DType, Device, Result, Tensor, Var};
use data::Batch;
use models::{
    CausalLm, LayerCache, LoadOptions, LoraConfig, LoraLinear, Model, ModelInfo, ModelView, Pass, Sequences,
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use types::{Provider, TrainingConfig};

/// Sizes of a Llama-shaped model.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub vocab: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub mlp: usize,
    pub tied: bool,
}

/// Grouped-query heads, head tied to the embeddings.
pub const GROUPED: Shape =
    Shape { vocab: 40, hidden: 16, layers: 3, heads: 4, kv_heads: 2, mlp: 24, tied: true };
/// As many key heads as query heads, a head of its own.
pub const PLAIN: Shape =
    Shape { vocab: 33, hidden: 12, layers: 2, heads: 2, kv_heads: 2, mlp: 20, tied: false };

/// Numbers that look random and are the same everywhere: uniform in -1 … 1.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    pub fn unit(&mut self) -> f32 {
        ((self.bits() >> 24) as f64 / (1u64 << 39) as f64 - 1.0) as f32
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits() >> 20) % n as u64) as usize
    }
}

/// Writes `config.json` and `model.safetensors` of a random model.
pub fn write_model(folder: &Path, shape: &Shape) {
    let head_dim = shape.hidden / shape.heads;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": shape.vocab, "hidden_size": shape.hidden, "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": head_dim, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 512, "tie_word_embeddings": shape.tied, "attention_bias": false,
        "mlp_bias": false, "torch_dtype": "float32",
    });
    types::files::write_json(&folder.join("config.json"), &config).unwrap();

    let mut noise = Noise::new(7);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, dims: Vec<usize>, middle: f32, spread: f32| {
        let n = dims.iter().product();
        let bytes = (0..n).flat_map(|_| (middle + spread * noise.unit()).to_le_bytes()).collect();
        tensors.push((name, dims, bytes));
    };
    let (h, kv) = (shape.hidden, shape.kv_heads * head_dim);
    let spread = (3.0 / h as f32).sqrt();
    add("model.embed_tokens.weight".into(), vec![shape.vocab, h], 0.0, 0.5);
    for i in 0..shape.layers {
        let at = |name: &str| format!("model.layers.{i}.{name}.weight");
        add(at("self_attn.q_proj"), vec![h, h], 0.0, spread);
        add(at("self_attn.k_proj"), vec![kv, h], 0.0, spread);
        add(at("self_attn.v_proj"), vec![kv, h], 0.0, spread);
        add(at("self_attn.o_proj"), vec![h, h], 0.0, spread);
        add(at("mlp.gate_proj"), vec![shape.mlp, h], 0.0, spread);
        add(at("mlp.up_proj"), vec![shape.mlp, h], 0.0, spread);
        add(at("mlp.down_proj"), vec![h, shape.mlp], 0.0, spread);
        add(at("input_layernorm"), vec![h], 1.0, 0.1);
        add(at("post_attention_layernorm"), vec![h], 1.0, 0.1);
    }
    add("model.norm.weight".into(), vec![h], 1.0, 0.1);
    if !shape.tied {
        add("lm_head.weight".into(), vec![shape.vocab, h], 0.0, spread);
    }
    let views = tensors
        .iter()
        .map(|(name, dims, bytes)| (name, TensorView::new(Dtype::F32, dims.clone(), bytes).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    types::files::write(&folder.join("model.safetensors"), &bytes).unwrap();
}

/// A random model with a fresh adapter on all linear layers, on the fused kernels.
pub fn model(shape: &Shape, rank: usize, dropout: f64) -> Box<dyn CausalLm> {
    model_of(shape, rank, dropout, false, Provider::Unsloth)
}

/// The same in f32 or bf16, on the implementation that is asked for.
pub fn model_of(
    shape: &Shape,
    rank: usize,
    dropout: f64,
    bf16: bool,
    provider: Provider,
) -> Box<dyn CausalLm> {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), shape);
    let options = LoadOptions { bf16, provider, device: Device::Cpu };
    let mut model = models::load(folder.path(), &options).unwrap().causal().unwrap();
    let lora = LoraConfig { rank, alpha: 2.0 * rank as f64, dropout, target_modules: None };
    model.attach_lora(&lora, 42).unwrap();
    model
}

/// Gives every adapter tensor random values; in a fresh adapter every B is zero, which hides half of the gradients.
pub fn shake_adapter(model: &dyn CausalLm, spread: f32) {
    let mut noise = Noise::new(11);
    for (_, var) in model.trainable() {
        let values: Vec<f32> = (0..var.elem_count()).map(|_| spread * noise.unit()).collect();
        var.set(&Tensor::from_vec(values, var.dims(), var.device()).unwrap()).unwrap();
    }
}

/// All adapter values, tensor by tensor.
pub fn adapter_values(model: &dyn CausalLm) -> Vec<Vec<f32>> {
    model.trainable().iter().map(|(_, var)| var.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// A batch of random rows of these lengths; the first third of each row is not trained.
pub fn batch(vocab: usize, lengths: &[usize], seed: u64) -> Batch {
    let mut noise = Noise::new(seed);
    let mut batch = Batch::default();
    for &length in lengths {
        let ids: Vec<u32> = (0..length).map(|_| noise.below(vocab) as u32).collect();
        let trained: Vec<bool> = (0..length).map(|i| i * 3 >= length).collect();
        batch.push(&ids, &trained);
    }
    batch
}

/// Settings with some of them changed.
pub fn config(changes: &Value) -> TrainingConfig {
    let mut request = json!({
        "task": "text-generation", "model_name": "test", "dataset": "rows.jsonl", "lora_dropout": 0.0,
        "warmup_ratio": 0.0, "learning_rate": 0.01, "gradient_checkpointing": false, "max_grad_norm": 0.0,
    });
    let request = request.as_object_mut().unwrap();
    request.extend(changes.as_object().unwrap().clone());
    TrainingConfig::from_json(request).unwrap()
}

/// One pass through a layer, as a [`Watched`] model saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCall {
    pub index: usize,
    pub lengths: Vec<usize>,
    pub pass: Pass,
}

/// A model that remembers what it was asked.
pub struct Watched<'a> {
    pub inner: &'a dyn CausalLm,
    pub calls: Mutex<Vec<LayerCall>>,
    /// Tensors it claims to train and never uses.
    pub idle: Vec<(String, Var)>,
    /// Once this many layer calls were made, layers answer with NaN.
    pub breaks_after: Option<usize>,
    /// Whether it says that it multiplies in f16.
    pub f16: bool,
    /// The last gradient goes through f16 as so many times its value.
    pub narrowed: Option<f64>,
}

impl<'a> Watched<'a> {
    pub fn new(inner: &'a dyn CausalLm) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
            idle: Vec::new(),
            breaks_after: None,
            f16: false,
            narrowed: None,
        }
    }

    pub fn take_calls(&self) -> Vec<LayerCall> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Model for Watched<'_> {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    fn device(&self) -> &Device {
        self.inner.device()
    }

    fn view(&self) -> ModelView<'_> {
        ModelView::Causal(self)
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        let mut all = self.inner.trainable();
        all.extend(self.idle.iter().cloned());
        all
    }

    fn multiplies_f16(&self) -> bool {
        self.f16
    }

    fn linears(&mut self) -> Vec<(String, &mut LoraLinear)> {
        Vec::new()
    }
}

impl CausalLm for Watched<'_> {
    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.inner.embed(ids)
    }

    fn layer(
        &self,
        index: usize,
        hidden: &Tensor,
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(LayerCall { index, lengths: sequences.lengths.clone(), pass });
        let output = self.inner.layer(index, hidden, sequences, pass, cache)?;
        if self.breaks_after.is_some_and(|n| calls.len() > n) { output * f64::NAN } else { Ok(output) }
    }

    fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        let normed = self.inner.final_norm(hidden)?;
        match self.narrowed {
            Some(factor) => (normed / factor)?.to_dtype(DType::F16)?.to_dtype(DType::F32)? * factor,
            None => Ok(normed),
        }
    }

    fn cross_entropy(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
        self.inner.cross_entropy(hidden, targets)
    }

    fn token_log_probs_at(&self, hidden: &Tensor, targets: &[u32], temperature: f64) -> Result<Tensor> {
        self.inner.token_log_probs_at(hidden, targets, temperature)
    }

    fn score(&self, hidden: &Tensor, pass: Pass) -> Result<Tensor> {
        self.inner.score(hidden, pass)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.inner.logits(hidden)
    }
}

/// A job folder that goes away with the returned guard.
pub fn job() -> (tempfile::TempDir, types::JobFolder) {
    let folder = tempfile::tempdir().unwrap();
    let job = types::JobFolder::new(folder.path().join("job"));
    fs::create_dir(job.path()).unwrap();
    (folder, job)
}
