//! A dataset that ships with the app on the model that ships with it: the fused kernels end where the reference does.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly; the losses are shown")]

use std::path::{Path, PathBuf};

use candle_core::Device;
use data::{PrepareOptions, Tokenizer};
use models::{LoadOptions, LoraConfig};
use serde_json::json;
use train::{Outcome, TrainRun, run};
use types::{JobFolder, Provider, Strategy, Task, TrainEvent, TrainingConfig};

const STEPS: usize = 200;
/// The loss of a single step depends on its rows: the mean of this many is compared.
const SMOOTHED: usize = 20;

fn resources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources")
}

/// The loss of every step with the settings that a run has by itself.
fn losses(provider: Provider, bf16: bool) -> Vec<f64> {
    let request = json!({
        "task": "text-generation", "model_name": "modelforge/starter", "dataset": "sample:order-slips",
        "max_steps": STEPS, "bf16": bf16, "eval_split": 0.0, "save_steps": 1000,
    });
    let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
    let starter = resources().join("starter");
    let mut model = models::load(&starter, &LoadOptions { bf16, provider, device: Device::Cpu })
        .unwrap()
        .causal()
        .unwrap();
    let (rank, alpha) = (config.lora_r as usize, f64::from(config.lora_alpha));
    let lora = LoraConfig { rank, alpha, dropout: config.lora_dropout, target_modules: None };
    model.attach_lora(&lora, config.seed).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let job = JobFolder::new(folder.path());
    std::fs::create_dir_all(job.tokens()).unwrap();
    let options = PrepareOptions {
        dataset: &resources().join("samples/order-slips/train.jsonl"),
        eval_dataset: None,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        max_seq_length: None,
        context_length: model.info().context_length,
        length_cap: None,
        eval_split: 0.0,
        packing: false,
        skip_bad_rows: false,
        seed: config.seed,
        tokens_dir: &job.tokens(),
    };
    let data = data::prepare(&options, &Tokenizer::load(&starter).unwrap(), &mut |_| {}).unwrap();
    let mut losses = Vec::new();
    let outcome = run(
        TrainRun {
            model: model.as_ref(),
            data: &data,
            config: &config,
            job: &job,
            resume: None,
            answers: None,
        },
        &mut |event| {
            if let TrainEvent::Step(stats) = event {
                losses.push(stats.loss);
            }
        },
        &|| None,
    );
    assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
    losses
}

#[test]
#[ignore = "takes minutes"]
fn after_two_hundred_steps_the_fused_kernels_have_the_loss_of_the_reference() {
    let smoothed = |losses: &[f64]| losses[losses.len() - SMOOTHED..].iter().sum::<f64>() / SMOOTHED as f64;
    let reference = losses(Provider::Huggingface, false);
    let want = smoothed(&reference);
    println!("reference, f32: {:.5} at first, {want:.5} at last", smoothed(&reference[..SMOOTHED]));
    assert!(want < 0.5 * smoothed(&reference[..SMOOTHED]), "it learns");
    for bf16 in [false, true] {
        let got = smoothed(&losses(Provider::Unsloth, bf16));
        println!("fused, bf16 {bf16}: {got:.5}, {:+.3} %", (got / want - 1.0) * 100.0);
        assert!((got / want - 1.0).abs() <= 0.01, "bf16 {bf16}: {got}, the reference has {want}");
    }
}
