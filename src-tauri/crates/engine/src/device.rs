//! Where an engine computes: chosen here and handed down.

use std::path::Path;

use candle_core::Device;
use models::{AnyModel, LoadOptions, Quantise};
use types::Provider;

use crate::EngineError;

/// What the model of a run or a chat is computed on when nothing is told to this program but that.
pub const CPU: &str = "cpu";
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

/// Whether a device multiplies in bf16: older systems have no such numbers on the GPU.
pub fn computes_bf16(device: &Device) -> bool {
    let multiply = || -> candle_core::Result<f32> {
        let one = candle_core::Tensor::ones((1, 1), candle_core::DType::BF16, device)?;
        one.matmul(&one)?.to_dtype(candle_core::DType::F32)?.sum_all()?.to_scalar::<f32>()
    };
    !device.is_metal() || multiply().is_ok_and(|one| one == 1.0)
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
        _ => CPU,
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

/// What a model is loaded for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The folder of the base model.
    pub folder: &'a Path,
    /// Whether it computes in bf16.
    pub bf16: bool,
    /// Which implementation computes.
    pub provider: Provider,
    /// How linear layers are kept.
    pub quantise: Option<Quantise>,
}

impl Wanted<'_> {
    /// Loads it where it is computed best. `warn` is told why that is not the GPU, where this engine is one for a card or for a Mac.
    ///
    /// # Errors
    /// The model's files cannot be used.
    pub fn load(&self, warn: &mut dyn FnMut(String)) -> Result<AnyModel, EngineError> {
        #[cfg(feature = "cuda")]
        match self.load_on_card() {
            Ok(model) => {
                COMPUTING.get_or_init(|| model.device().clone());
                return Ok(model);
            }
            Err(why) => warn(format!("the model is computed on the processor: {why}")),
        }
        #[cfg(not(feature = "cuda"))]
        if let Some(gpu) = apple_gpu() {
            match gpu.map_err(|error| error.to_string()).and_then(|gpu| self.load_on_apple(gpu, warn)) {
                Ok(model) => return Ok(model),
                Err(why) => warn(format!("the model is computed on the processor: {why}")),
            }
        }
        self.load_on(Device::Cpu)
    }

    #[cfg(not(feature = "cuda"))]
    fn load_on_apple(&self, gpu: Device, warn: &mut dyn FnMut(String)) -> Result<AnyModel, String> {
        let asked = self.bf16 || self.quantise.is_some_and(|how| how.bf16);
        let bf16 = computes_bf16(&gpu);
        if asked && !bf16 {
            warn("this Mac's GPU has no bfloat16 numbers: the model is computed in float32".into());
        }
        let quantise = self.quantise.map(|how| Quantise { bf16: how.bf16 && bf16, ..how });
        let wanted = Wanted { bf16: self.bf16 && bf16, quantise, ..*self };
        wanted.load_on(gpu).map_err(|error| error.to_string())
    }

    #[cfg(feature = "cuda")]
    fn load_on_card(&self) -> Result<AnyModel, String> {
        let card = card().map_err(|error| error.to_string())?;
        self.load_on(card).map_err(|error| error.to_string())
    }

    /// Loads it on one device.
    ///
    /// # Errors
    /// As [`load`](Self::load), or the device has too little memory.
    pub fn load_on(&self, device: Device) -> Result<AnyModel, EngineError> {
        let options = LoadOptions { bf16: self.bf16, provider: self.provider, device };
        Ok(models::load_quantised(self.folder, &options, self.quantise)?)
    }
}
