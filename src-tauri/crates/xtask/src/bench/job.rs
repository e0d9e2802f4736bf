//! Job folders for our engine, with the settings that the peers have too.

use std::{fs, path::Path};

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value, json};
use types::{JobFolder, RunSpec, TrainingConfig, files};

pub const RANK: u32 = 16;
pub const ALPHA: u32 = 32;
pub const LEARNING_RATE: f64 = 1e-4;

/// More steps or batches than anything measured here has.
const NEVER: u32 = 1_000_000;

/// Writes a job into `home`: an optimizer step over all rows, as often as `settings` say, with nothing evaluated. An error
/// where this version does not carry the settings out.
pub fn write(home: &Path, model: &Path, rows: &Path, settings: Value) -> Result<JobFolder> {
    let mut request = json!({
        "task": "text-generation", "model_name": "bench", "dataset": rows, "eval_split": 0.0, "eval_steps": NEVER,
        "save_steps": NEVER, "gradient_accumulation_steps": NEVER, "lora_r": RANK, "lora_alpha": ALPHA,
        "lora_dropout": 0.0, "learning_rate": LEARNING_RATE, "lr_scheduler_type": "constant", "warmup_ratio": 0.0,
        "optim": "adamw_torch", "weight_decay": 0.0, "max_grad_norm": 0.0,
    });
    if let (Some(all), Value::Object(settings)) = (request.as_object_mut(), settings) {
        all.extend(settings);
    }
    let config = TrainingConfig::from_json(request.as_object().unwrap_or(&Map::new())).map_err(|errors| {
        anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    if let Some(refused) = config.unsupported().first() {
        bail!("{refused}");
    }
    let job = JobFolder::new(home.join("job"));
    fs::create_dir(job.path())?;
    let spec = RunSpec {
        version: RunSpec::VERSION,
        expected: None,
        finish_after: None,
        job_id: "train_20260101_000000".into(),
        model_id: "model_20260101_000000".into(),
        config,
        base_dir: model.into(),
        dataset_path: rows.into(),
        eval_dataset_path: None,
        model_dir: home.join("model"),
        created_at: types::id::now_rfc3339(),
    };
    files::write_json(&job.run_json(), &spec)?;
    Ok(job)
}

#[cfg(test)]
mod tests {
    use types::Provider;

    use super::*;

    #[test]
    fn a_job_says_what_was_asked_or_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let settings = json!({"provider": Provider::Huggingface, "max_steps": 4, "max_seq_length": 256});
        let job = write(home.path(), Path::new("model"), Path::new("rows"), settings).unwrap();
        let spec: RunSpec = serde_json::from_slice(&fs::read(job.run_json()).unwrap()).unwrap();
        assert_eq!((spec.config.max_steps, spec.config.lora_r), (4, RANK));
        let refused = write(home.path(), Path::new("model"), Path::new("rows"), json!({"fp16": true}));
        assert!(refused.unwrap_err().to_string().contains("fp16"), "a refusal names the setting");
        let wrong = write(home.path(), Path::new("model"), Path::new("rows"), json!({"lora_rank": 3}));
        assert!(wrong.unwrap_err().to_string().contains("lora_rank"), "a mistake names the setting");
    }
}
