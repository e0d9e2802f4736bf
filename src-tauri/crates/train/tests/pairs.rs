//! Training of encoder-decoders: curves, gradient norms and the trained adapter equal those of torch, transformers and PEFT;
//! checkpointing changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a broken golden ends the test; differences are shown"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use candle_core::Device;
use data::Batch;
use golden::{PAIRS, Pair, Pairs, path};
use models::{AnyModel, LoadOptions, Pass};
use serde_json::json;
use train::{
    BatchRun, GivenBatches, Outcome, backward::Backward, gradients::Gradients, run_batches, strategies::Sft,
};
use types::{JobFolder, Provider, TrainEvent, TrainingConfig};

const TOLERANCE: f64 = 1e-4;

fn load(name: &str) -> AnyModel {
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: place::device() };
    let mut model = models::load(&path(name), &options).unwrap();
    model.load_adapter(&path(name).join("adapter")).unwrap();
    model
}

fn batch(rows: &[Pair], chosen: impl IntoIterator<Item = usize>) -> Batch {
    let mut batch = Batch::default();
    for row in chosen {
        let Pair { source, target } = &rows[row];
        let trained: Vec<bool> = (0..target.len()).map(|i| i > 0).collect();
        batch.push_pair(source, target, &trained);
    }
    batch
}

fn config(golden: &Pairs, checkpointing: bool) -> TrainingConfig {
    let curve = &golden.curve;
    let settings = json!({
        "task": "summarization", "model_name": "golden", "dataset": "golden",
        "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
        "num_train_epochs": curve.losses.len(), "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4,
        "optim": "adamw_torch", "lr_scheduler_type": curve.schedule, "learning_rate": curve.learning_rate,
        "warmup_ratio": curve.warmup_ratio, "max_grad_norm": curve.max_grad_norm,
        "weight_decay": curve.weight_decay, "gradient_checkpointing": checkpointing, "eval_split": 0.0,
        "group_by_length": false, "save_steps": 1000, "eval_steps": 1000,
    });
    TrainingConfig::from_json(settings.as_object().unwrap()).unwrap()
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn every_curve_equals_peft() {
    for (number, name) in PAIRS.into_iter().enumerate() {
        let golden = golden::pairs(name);
        let tensors =
            candle_core::safetensors::load(path(name).join("golden.safetensors"), &Device::Cpu).unwrap();
        let model = load(name);
        let steps = golden.curve.plan.iter().map(|micro_batches| {
            micro_batches.iter().map(|rows| batch(&golden.rows, rows.iter().copied())).collect()
        });
        let mut batches = GivenBatches { steps: steps.collect(), eval: Vec::new() };
        let (folder, mut seen) = (tempfile::tempdir().unwrap(), Vec::new());
        let run = BatchRun {
            model: &*model,
            batches: &mut batches,
            config: &config(&golden, number % 2 == 0),
            job: &JobFolder::new(folder.path()),
            resume: None,
            answers: None,
        };
        let mut sink = |event| {
            if let TrainEvent::Step(stats) = event {
                seen.push(stats);
            }
        };
        assert!(matches!(run_batches(run, &mut sink, &|| None).unwrap(), Outcome::Finished(_)));
        assert_eq!(seen.len(), golden.curve.losses.len());
        let (mut loss, mut norm) = (0f64, 0f64);
        for (i, step) in seen.iter().enumerate() {
            let relative = |got: f64, want: f64| (got / want - 1.0).abs();
            let (of_loss, of_norm) = (
                relative(step.loss, golden.curve.losses[i]),
                relative(step.grad_norm, golden.curve.grad_norms[i]),
            );
            assert!(
                of_loss <= TOLERANCE,
                "{name}, step {}: loss {}, PEFT {}",
                i + 1,
                step.loss,
                golden.curve.losses[i]
            );
            assert!(of_norm <= TOLERANCE, "{name}, step {}: norm {}", i + 1, step.grad_norm);
            (loss, norm) = (loss.max(of_loss), norm.max(of_norm));
        }
        let mut worst = 0f64;
        for (tensor, var) in model.trainable() {
            let numbers = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let want = numbers(&tensors[&format!("cosine.{tensor}")]);
            let apart = golden::relative_distance(&numbers(&var), &want);
            assert!(apart <= TOLERANCE, "{name}: {tensor} after the last step is PEFT's: {apart:e}");
            worst = worst.max(apart);
        }
        println!("{name}: losses {loss:.1e}, gradient norms {norm:.1e}, adapter {worst:.1e}");
    }
}

fn gradients(model: &AnyModel, batches: &[Batch], pass: Pass, checkpointing: bool) -> (f64, Gradients) {
    let trainable = model.trainable();
    let backward =
        Backward { model: &**model, strategy: &Sft, trainable: &trainable, checkpointing, offload: false };
    let mut gradients = Gradients::zeros(trainable.iter().map(|(_, var)| var.elem_count()));
    let loss = batches.iter().map(|batch| backward.run(batch, pass, 0.1, &mut gradients).unwrap().sum).sum();
    (loss, gradients)
}

fn apart(a: &Gradients, b: &Gradients) -> f64 {
    let squares = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt() / a.norm().unwrap()
}

#[test]
fn checkpointing_changes_no_gradient_but_by_the_order_of_sums() {
    for name in PAIRS {
        let (model, rows) = (load(name), golden::pairs(name).rows);
        let batches = [batch(&rows, 0..3), batch(&rows, 3..4)];
        let pass = Pass { dropout_seed: Some(3), ..Pass::EVAL };
        let (loss, whole) = gradients(&model, &batches, pass, false);
        let (again, layered) = gradients(&model, &batches, pass, true);
        assert_eq!(loss.to_bits(), again.to_bits(), "{name}: the loss is the same number");
        assert!(apart(&whole, &layered) < 1e-6, "{name}: {}", apart(&whole, &layered));
    }
}

#[test]
fn rows_that_are_computed_together_do_not_see_each_other() {
    for name in PAIRS {
        let (model, rows) = (load(name), golden::pairs(name).rows);
        let alone: Vec<Batch> = (0..4).map(|row| batch(&rows, [row])).collect();
        let (sum, separate) = gradients(&model, &alone, Pass::EVAL, false);
        let (loss, together) = gradients(&model, &[batch(&rows, 0..4)], Pass::EVAL, true);
        assert!((sum - loss).abs() <= 1e-6 * loss, "{name}: rows alone {sum}, together {loss}");
        assert!(apart(&separate, &together) < 1e-5, "{name}: {}", apart(&separate, &together));
    }
}
