//! A model's folder: config, weights, index and adapter, each foreign while the other files are those of a tiny model.

use candle_core::Device;
use models::LoadOptions;
use types::Provider;

use crate::with_files;

const CONFIG: &[u8] = include_bytes!("fixtures/config.json");
const WEIGHTS: &[u8] = include_bytes!("fixtures/tiny.safetensors");
const SHARDS: [&[u8]; 2] =
    [include_bytes!("fixtures/shard-1.safetensors"), include_bytes!("fixtures/shard-2.safetensors")];
const ADAPTER: &[u8] = include_bytes!("fixtures/adapter_model.safetensors");
const OPTIONS: LoadOptions =
    LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };

/// `config.json`.
pub fn model_config(bytes: &[u8]) {
    with_files(&[("config.json", bytes), ("model.safetensors", WEIGHTS)], |folder| {
        let read = models::read_info(folder);
        if let Ok(model) = models::load(folder, &OPTIONS) {
            assert_eq!(
                read.ok().as_ref(),
                Some(model.info()),
                "the config alone tells what the loaded model tells"
            );
        }
    });
}

/// `model.safetensors`.
pub fn safetensors(bytes: &[u8]) {
    with_files(&[("config.json", CONFIG), ("model.safetensors", bytes)], |folder| {
        if let Ok(tensors) = models::weights::header::read_header(&folder.join("model.safetensors")) {
            let mut ends: Vec<u64> = tensors.values().map(|tensor| tensor.start + tensor.bytes).collect();
            ends.sort_unstable();
            assert!(ends.last().is_none_or(|&end| end == bytes.len() as u64), "the tensors fill the file");
        }
        let _ = models::load(folder, &OPTIONS);
    });
}

/// `model.safetensors.index.json`.
pub fn safetensors_index(bytes: &[u8]) {
    let [first, second] = SHARDS;
    let files = [
        ("config.json", CONFIG),
        ("model-1.safetensors", first),
        ("model-2.safetensors", second),
        ("model.safetensors.index.json", bytes),
    ];
    with_files(&files, |folder| {
        let _ = models::load(folder, &OPTIONS);
    });
}

/// `adapter_config.json`.
pub fn adapter_config(bytes: &[u8]) {
    let files = [
        ("config.json", CONFIG),
        ("model.safetensors", WEIGHTS),
        ("adapter_config.json", bytes),
        ("adapter_model.safetensors", ADAPTER),
    ];
    with_files(&files, |folder| {
        let Ok(mut model) = models::load(folder, &OPTIONS) else { return };
        if let Ok(config) = model.load_adapter(folder) {
            assert!(!model.trainable().is_empty(), "a loaded adapter is on the model");
            assert!(
                config.check().is_ok(),
                "a loaded adapter has settings that an adapter could be made with"
            );
        } else {
            assert!(model.trainable().is_empty(), "a refused adapter leaves nothing on the model");
        }
    });
}
