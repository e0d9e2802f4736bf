//! Where an engine computes: chosen here and handed down.

use std::path::Path;

use candle_core::Device;
use models::{AnyModel, LoadOptions, Quantise};
use types::{Provider, engine::PROCESSOR};

use crate::EngineError;

/// The name of a Mac's GPU.
const METAL: &str = "metal";
/// The name of a card as events have it.
#[cfg(feature = "cuda")]
const CARD: &str = "cuda";

/// The card of this engine. The driver honours `CUDA_VISIBLE_DEVICES`, so the first one is the one that was chosen.
///
/// # Errors
/// There is no driver, it is too old, or there is no card.
#[cfg(feature = "cuda")]
pub fn card() -> candle_core::Result<Device> {
    static CARD: std::sync::Mutex<Option<Device>> = std::sync::Mutex::new(None);
    let mut card = CARD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match &*card {
        Some(made) => Ok(made.clone()),
        None => Ok(card.insert(kernels::card(0)?).clone()),
    }
}

/// The GPU of a Mac, whose operations are in every build for Apple silicon.
#[cfg(not(feature = "cuda"))]
fn apple_gpu() -> Option<candle_core::Result<Device>> {
    let told_not_to = std::env::var_os(types::engine::NOT_ON_CARD).is_some();
    if told_not_to || !candle_core::utils::metal_is_available() {
        return None;
    }
    // A model and what it is given must be on the same device, made once.
    static GPU: std::sync::Mutex<Option<Device>> = std::sync::Mutex::new(None);
    let mut gpu = GPU.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Some(match &*gpu {
        Some(made) => Ok(made.clone()),
        None => Device::new_metal(0).map(|made| gpu.insert(made).clone()),
    })
}

/// The card, once a model is computed there.
#[cfg(feature = "cuda")]
static COMPUTING: std::sync::OnceLock<Device> = std::sync::OnceLock::new();

/// The most memory that this process has used of the card it computes on, and what it uses now; none on the processor.
#[cfg(feature = "cuda")]
pub fn card_memory() -> Option<(u64, u64)> {
    let memory = kernels::memory(COMPUTING.get()?).ok()??;
    Some((memory.peak, memory.used))
}

/// The name of a device as events have it.
pub fn name(device: &Device) -> &'static str {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => CARD,
        Device::Metal(_) => METAL,
        _ => PROCESSOR,
    }
}

/// Where products are measured that stand for those of training.
///
/// # Errors
/// This engine is one for a card, and there is none.
pub fn measured() -> candle_core::Result<Device> {
    #[cfg(feature = "cuda")]
    return card();
    #[cfg(not(feature = "cuda"))]
    Ok(apple_gpu().and_then(Result::ok).unwrap_or(Device::Cpu))
}

/// Whether products and other operations give what they should where this engine computes.
///
/// # Errors
/// As [`measured`]; the device computes nothing, or something else.
pub fn check() -> candle_core::Result<()> {
    let device = measured()?;
    let ones = candle_core::Tensor::ones((1, 8), candle_core::DType::F32, &device)?;
    let normed = kernels::rms_norm(&ones, &ones.squeeze(0)?, 0.0)?;
    let product = kernels::fused_product(&normed, &ones)?.flatten_all()?.to_vec1::<f32>()?;
    match product.as_slice() {
        [eight] if (eight - 8.0).abs() < 1e-3 => Ok(()),
        other => candle_core::bail!("8 is computed as {other:?}"),
    }
}

/// What a model is loaded for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The folder of the base model.
    pub folder: &'a Path,
    /// Whether it computes in bf16.
    pub bf16: bool,
    /// Whether it computes in fp16, which the processor replaces by bf16.
    pub fp16: bool,
    /// Which implementation computes.
    pub provider: Provider,
    /// How linear layers are kept.
    pub quantise: Option<Quantise>,
    /// What is done with it.
    pub purpose: Purpose,
}

/// What a model is loaded to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is trained, on one device.
    Train,
    /// What is done with it is done on the processor, whatever the engine is one for.
    OnProcessor,
    /// It answers. What of it does not fit on a card is on the processor.
    Answer {
        /// Bytes of an adapter that it is given.
        beside: u64,
    },
}

/// Tokens of a conversation that a card has room to remember where a model answers; models can see far more than most conversations
/// have.
#[cfg(feature = "cuda")]
const REMEMBERED: usize = 8192;
/// How often a model is loaded with fewer layers on the card where it did not fit after all.
#[cfg(feature = "cuda")]
const TRIES: usize = 4;

impl Wanted<'_> {
    /// Loads it where it is computed best. `warn` is told why that is not the GPU, where this engine is one for a card or for a Mac.
    ///
    /// # Errors
    /// The model's files cannot be used.
    pub fn load(&self, warn: &mut dyn FnMut(String)) -> Result<AnyModel, EngineError> {
        #[cfg(feature = "cuda")]
        if self.purpose != Purpose::OnProcessor {
            match self.load_on_card(warn) {
                Ok(model) => {
                    COMPUTING.get_or_init(|| model.device().clone());
                    if self.bf16 && model.multiplies_f16() {
                        warn(
                            "this GPU has no bf16: fp16, with a loss scale in training, takes its place"
                                .into(),
                        );
                    }
                    return Ok(model);
                }
                Err(why) => warn(format!("the model is computed on the processor: {why}")),
            }
        }
        #[cfg(not(feature = "cuda"))]
        if let Some(gpu) = apple_gpu().filter(|_| self.purpose != Purpose::OnProcessor) {
            match gpu.map_err(|error| error.to_string()).and_then(|gpu| self.load_on_apple(gpu, warn)) {
                Ok(model) => return Ok(model),
                Err(why) => warn(format!("the model is computed on the processor: {why}")),
            }
        }
        if self.fp16 {
            warn("fp16 is computed on NVIDIA's GPUs only: bf16 takes its place".into());
        }
        self.load_on(Device::Cpu)
    }

    #[cfg(not(feature = "cuda"))]
    fn load_on_apple(&self, gpu: Device, warn: &mut dyn FnMut(String)) -> Result<AnyModel, String> {
        let sixteen_bits = kernels::computed_in(&gpu, true, false).map_err(|error| error.to_string())?;
        if self.bf16 && sixteen_bits == candle_core::DType::F32 {
            warn("bf16 takes a newer system on this computer's GPU: float32 takes its place".into());
        }
        self.load_on(gpu).map_err(|error| error.to_string())
    }

    #[cfg(feature = "cuda")]
    fn load_on_card(&self, warn: &mut dyn FnMut(String)) -> Result<AnyModel, String> {
        let card = card().map_err(|error| error.to_string())?;
        match self.purpose {
            Purpose::Train | Purpose::OnProcessor => self.load_on(card).map_err(|error| error.to_string()),
            Purpose::Answer { beside } => self.load_what_fits(&card, beside, warn),
        }
    }

    /// Loads it with as many of its last layers on the card as fit there with what a conversation takes; with fewer where that turns out
    /// to be too many.
    #[cfg(feature = "cuda")]
    fn load_what_fits(
        &self,
        card: &Device,
        beside: u64,
        warn: &mut dyn FnMut(String),
    ) -> Result<AnyModel, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let options = LoadOptions { bf16: self.bf16, provider: self.provider, device: card.clone() };
        let dtype = kernels::computed_in(card, self.bf16, self.fp16).map_err(|error| text(&error))?;
        let sizes =
            models::sizes(self.folder, &options, self.quantise, dtype).map_err(|error| text(&error))?;
        let (Some(sizes), Some(memory)) = (sizes, kernels::memory(card).map_err(|error| text(&error))?)
        else {
            return self.load_on(card.clone()).map_err(|error| text(&error));
        };
        let context = models::read_info(self.folder).map_err(|error| text(&error))?.context_length;
        let (layers, free) = (sizes.layers.len(), (memory.free + memory.idle).saturating_sub(beside));
        let Some(mut left) = sizes.layers_left(free, context.min(REMEMBERED), models::AT_ONCE) else {
            return Err(format!(
                "not even one of its {layers} layers fits on the card, which has {:.1} GB free",
                free as f64 / 1e9
            ));
        };
        let mut tries = 0;
        loop {
            let loaded = models::load_split(self.folder, &options, self.quantise, dtype, left)
                .and_then(|model| try_out(&model).map(|()| model));
            tries += 1;
            match loaded {
                Ok(model) => {
                    if left > 0 {
                        warn(format!(
                            "{} of {layers} layers are computed on the card, the others on the processor: the card has {:.1} GB free",
                            layers - left,
                            free as f64 / 1e9
                        ));
                    }
                    return Ok(model);
                }
                Err(models::ModelError::Compute(error)) if left + 1 < layers && tries < TRIES => {
                    warn(format!("{} of {layers} layers on the card were too many: {error}", layers - left));
                    left += ((layers - left) / 4).max(1);
                }
                Err(error) => return Err(text(&error)),
            }
        }
    }

    /// Loads it on one device.
    ///
    /// # Errors
    /// As [`load`](Self::load), or the device has too little memory.
    pub fn load_on(&self, device: Device) -> Result<AnyModel, EngineError> {
        let dtype = kernels::computed_in(&device, self.bf16, self.fp16)?;
        let options = LoadOptions { bf16: self.bf16, provider: self.provider, device };
        Ok(models::load_as(self.folder, &options, self.quantise, dtype)?)
    }
}

/// Computes one token: what is put on the card only when it is needed, and kernels that are made then, are there afterwards.
#[cfg(feature = "cuda")]
fn try_out(model: &AnyModel) -> Result<(), models::ModelError> {
    let AnyModel::Causal(model) = model else { return Ok(()) };
    let mut caches = vec![models::LayerCache::default(); model.info().layers];
    let sequences = models::Sequences::continued(1, 0);
    let mut hidden = model.embed(&candle_core::Tensor::new(&[0u32], model.device())?)?;
    for (index, cache) in caches.iter_mut().enumerate() {
        hidden = model.layer(index, &hidden, &sequences, models::Pass::BASE, Some(cache))?;
    }
    model.logits(&model.final_norm(&hidden)?)?.to_vec2::<f32>()?;
    Ok(())
}
