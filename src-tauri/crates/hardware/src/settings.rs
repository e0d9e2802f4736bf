//! The settings that a run starts from, by the class of machine.

use schemars::JsonSchema;
use serde::Serialize;
use types::{LrScheduler, Optim, Profile};

/// The twelve documented settings.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "TrainingSettings")]
pub struct Settings {
    /// Rows computed at once.
    pub per_device_train_batch_size: u32,
    /// Batches an optimizer step.
    pub gradient_accumulation_steps: u32,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Passes over the dataset.
    pub num_train_epochs: u32,
    /// The longest row in tokens.
    pub max_seq_length: u32,
    /// Rank of the adapter.
    pub lora_r: u32,
    /// Scale of the adapter, times the rank.
    pub lora_alpha: u32,
    /// Base weights in 4 bits.
    pub use_4bit: bool,
    /// Computes in bfloat16.
    pub bf16: bool,
    /// The part of the steps over which the learning rate rises.
    pub warmup_ratio: f64,
    /// The shape of the learning rate.
    pub lr_scheduler_type: LrScheduler,
    /// The optimizer.
    pub optim: Optim,
}

impl Settings {
    /// The settings for a class of machine. `fast_bf16` decides about bfloat16 on the smallest class.
    pub fn for_profile(profile: Profile, fast_bf16: bool) -> Self {
        let middle = Self {
            per_device_train_batch_size: 2,
            gradient_accumulation_steps: 4,
            learning_rate: 2e-4,
            num_train_epochs: 3,
            max_seq_length: 2048,
            lora_r: 64,
            lora_alpha: 128,
            use_4bit: true,
            bf16: true,
            warmup_ratio: 0.03,
            lr_scheduler_type: LrScheduler::Cosine,
            optim: Optim::PagedAdamw32bit,
        };
        match profile {
            Profile::LowEnd => Self {
                per_device_train_batch_size: 1,
                gradient_accumulation_steps: 8,
                max_seq_length: 512,
                lora_r: 16,
                lora_alpha: 32,
                bf16: fast_bf16,
                ..middle
            },
            Profile::MidRange => middle,
            Profile::HighEnd => Self {
                per_device_train_batch_size: 4,
                gradient_accumulation_steps: 2,
                max_seq_length: 4096,
                use_4bit: false,
                ..middle
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_documented_settings_of_every_profile() {
        let middle = json!({
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "learning_rate": 2e-4,
            "num_train_epochs": 3, "max_seq_length": 2048, "lora_r": 64, "lora_alpha": 128, "use_4bit": true,
            "bf16": true, "warmup_ratio": 0.03, "lr_scheduler_type": "cosine", "optim": "paged_adamw_32bit",
        });
        let with = |changes: Value| {
            let mut all = middle.clone();
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            all
        };
        let low = json!({
            "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "max_seq_length": 512, "lora_r": 16,
            "lora_alpha": 32, "bf16": false,
        });
        let high = json!({
            "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_seq_length": 4096,
            "use_4bit": false,
        });
        for (profile, fast_bf16, want) in [
            (Profile::MidRange, true, middle.clone()),
            (Profile::MidRange, false, middle.clone()),
            (Profile::LowEnd, false, with(low.clone())),
            (Profile::HighEnd, true, with(high)),
        ] {
            let got = serde_json::to_value(Settings::for_profile(profile, fast_bf16)).unwrap();
            assert_eq!(got, want, "{profile}, key for key");
        }
        let got = Settings::for_profile(Profile::LowEnd, true);
        assert!(got.bf16, "low_end takes bfloat16 where the GPU is fast in it");
    }
}
