//! Loss curves, gradient norms, learning rates and the trained adapter equal those of torch, transformers and PEFT.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a broken golden ends the test; differences are shown"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use data::{Batch, Encoded, PrepareOptions, Prepared, Tokenizer};
use golden::{Curve, Sequence};
use models::{CausalLm, LoadOptions, Model};
use serde::Deserialize;
use serde_json::json;
use train::{
    BatchRun, GivenBatches, OPTIMIZERS, Outcome, SCHEDULES, TrainRun, optimizers::Parameter, run,
    run_batches, schedules::Span,
};
use types::{JobFolder, Provider, StepStats, Strategy, Task, TrainEvent, TrainingConfig};

const TOLERANCE: f64 = 1e-4;
const RATE_TOLERANCE: f64 = 1e-9;

fn load(shape: &str, provider: Provider) -> Box<dyn CausalLm> {
    let options = LoadOptions { bf16: false, provider, device: place::device() };
    let mut model = models::load(&golden::path(shape), &options).unwrap().causal().unwrap();
    model.load_adapter(&golden::path(shape).join("adapter")).unwrap();
    model
}

/// Settings of the golden's run. `checkpointing` must not matter, so each value takes its turn.
fn config(curve: &Curve, checkpointing: bool) -> TrainingConfig {
    let optim = if curve.optimizer == "adamw" { "adamw_torch" } else { "sgd" };
    let settings = json!({
        "task": "text-generation", "model_name": "golden", "dataset": "golden",
        "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
        "num_train_epochs": curve.losses.len(), "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4,
        "optim": optim, "lr_scheduler_type": curve.schedule, "learning_rate": curve.learning_rate,
        "warmup_ratio": curve.warmup_ratio, "max_grad_norm": curve.max_grad_norm,
        "weight_decay": curve.weight_decay, "gradient_checkpointing": checkpointing,
        "activation_offloading": checkpointing, "eval_split": 0.0,
        "group_by_length": false, "save_steps": 1000, "eval_steps": 1000,
    });
    TrainingConfig::from_json(settings.as_object().unwrap()).unwrap()
}

fn batch(rows: &[Sequence], chosen: &[usize]) -> Batch {
    let mut batch = Batch::default();
    chosen.iter().for_each(|&row| batch.push(&rows[row].ids, &rows[row].trained));
    batch
}

/// Collects the steps of a run.
fn steps(train: impl FnOnce(&JobFolder, &mut dyn FnMut(TrainEvent)) -> Outcome) -> Vec<StepStats> {
    let folder = tempfile::tempdir().unwrap();
    let mut steps = Vec::new();
    let outcome = train(&JobFolder::new(folder.path()), &mut |event| {
        if let TrainEvent::Step(stats) = event {
            steps.push(stats);
        }
    });
    assert!(matches!(outcome, Outcome::Finished(_)), "the run ends with its last step: {outcome:?}");
    steps
}

fn check_curve(label: &str, curve: &Curve, steps: &[StepStats]) {
    assert_eq!(steps.len(), curve.losses.len(), "{label}: as many steps as in the golden");
    let (mut loss, mut norm, mut rate) = (0f64, 0f64, 0f64);
    for (i, step) in steps.iter().enumerate() {
        let relative = |got: f64, want: f64| (got / want - 1.0).abs();
        let apart = relative(step.loss, curve.losses[i]);
        assert!(apart <= TOLERANCE, "{label}, step {}: loss {}, PEFT {}", i + 1, step.loss, curve.losses[i]);
        loss = loss.max(apart);
        let apart = relative(step.grad_norm, curve.grad_norms[i]);
        assert!(
            apart <= TOLERANCE,
            "{label}, step {}: norm {}, torch {}",
            i + 1,
            step.grad_norm,
            curve.grad_norms[i]
        );
        norm = norm.max(apart);
        let apart = (step.learning_rate - curve.learning_rates[i]).abs();
        assert!(
            apart <= RATE_TOLERANCE,
            "{label}, step {}: learning rate as in transformers, off {apart:e}",
            i + 1
        );
        rate = rate.max(apart);
    }
    println!(
        "{label}: losses differ by {loss:.1e}, gradient norms by {norm:.1e}, learning rates by {rate:.1e}"
    );
}

/// The adapter after the last step, by the norm of each tensor.
fn check_adapter(label: &str, model: &dyn Model, tensors: &HashMap<String, Tensor>, curve: &str) {
    let mut worst = 0f64;
    for (name, var) in model.trainable() {
        let Some(want) = tensors.get(&format!("{curve}.{name}")) else { return };
        if name.ends_with("qa_outputs.bias") {
            continue; // Its gradient is 0, and AdamW goes where its rounding points.
        }
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let apart = golden::relative_distance(&numbers(&var), &numbers(want));
        assert!(apart <= TOLERANCE, "{label}: {name} after the last step is PEFT's: {apart:e}");
        worst = worst.max(apart);
    }
    println!("{label}: the trained adapter differs by {worst:.1e} of its norm");
}

/// Every shape with every provider.
fn cases() -> impl Iterator<Item = (&'static str, Provider)> {
    golden::SHAPES.into_iter().flat_map(|shape| Provider::ALL.iter().map(move |&provider| (shape, provider)))
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn every_curve_equals_peft() {
    for (shape, provider) in cases() {
        let golden = golden::golden(shape);
        let path = golden::path(shape).join("golden.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        for (number, (name, curve)) in golden.curves.iter().enumerate() {
            let model = load(shape, provider);
            let micro_batches =
                |plan: &Vec<Vec<usize>>| plan.iter().map(|chosen| batch(&golden.rows, chosen)).collect();
            let mut batches =
                GivenBatches { steps: curve.plan.iter().map(micro_batches).collect(), eval: Vec::new() };
            let (config, label) = (config(curve, number % 2 == 0), format!("{shape}, {provider}, {name}"));
            let steps = steps(|job, sink| {
                let run = BatchRun {
                    model: model.as_ref(),
                    batches: &mut batches,
                    config: &config,
                    job,
                    resume: None,
                    answers: None,
                };
                run_batches(run, sink, &|| None).unwrap()
            });
            check_curve(&label, curve, &steps);
            check_adapter(&label, model.as_ref(), &tensors, name);
        }
    }
}

/// The adapter and the head above it, both trained.
#[test]
fn the_curves_of_models_that_point_at_answers_equal_peft() {
    for shape in golden::SPAN_SHAPES {
        let golden = golden::span_golden(shape);
        let path = golden::path(shape).join("golden.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let micro_batch = |chosen: &Vec<usize>| {
            let mut batch = Batch::default();
            for window in chosen.iter().map(|&row| &golden.windows[row]) {
                batch.add(&Encoded {
                    ids: window.ids.clone(),
                    trained: vec![false; window.ids.len()],
                    token_types: window.token_types.iter().map(|&segment| segment as u8).collect(),
                    span: Some(window.span),
                    ..Encoded::default()
                });
            }
            batch
        };
        for checkpointing in [false, true] {
            let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: place::device() };
            let mut model = models::load(&golden::path(shape), &options).unwrap();
            model.load_adapter(&golden::path(shape).join("adapter")).unwrap();
            let plan = golden.curve.plan.iter().map(|step| step.iter().map(micro_batch).collect());
            let mut batches = GivenBatches { steps: plan.collect(), eval: Vec::new() };
            let config = config(&golden.curve, checkpointing);
            let steps = steps(|job, sink| {
                let run = BatchRun {
                    model: &*model,
                    batches: &mut batches,
                    config: &config,
                    job,
                    resume: None,
                    answers: None,
                };
                run_batches(run, sink, &|| None).unwrap()
            });
            let label = format!("{shape}, checkpointing {checkpointing}");
            check_curve(&label, &golden.curve, &steps);
            check_adapter(&label, &*model, &tensors, "cosine");
        }
    }
}

/// From the dataset file to the last step: a step sees all rows, so their order changes nothing.
#[test]
fn a_run_on_a_dataset_file_equals_peft() {
    for (shape, provider) in cases() {
        let golden = golden::golden(shape);
        let Some(curve) = golden.curves.get("whole") else { continue };
        let (model, config) = (load(shape, provider), config(curve, true));
        let steps = steps(|job, sink| {
            let data = prepared(shape, job, model.info().context_length);
            let run_spec = TrainRun {
                model: model.as_ref(),
                data: &data,
                config: &config,
                job,
                resume: None,
                answers: None,
            };
            run(run_spec, sink, &|| None).unwrap()
        });
        check_curve(&format!("{shape}, {provider}, dataset file"), curve, &steps);
    }
}

fn prepared(shape: &str, job: &JobFolder, context_length: usize) -> Prepared {
    let tokenizer = Tokenizer::load(&golden::path(shape)).unwrap();
    std::fs::create_dir_all(job.tokens()).unwrap();
    let options = PrepareOptions {
        dataset: &golden::path("dataset.jsonl"),
        eval_dataset: None,
        task: Task::TextGeneration,
        strategy: Strategy::Sft,
        max_seq_length: None,
        context_length,
        length_cap: None,
        eval_split: 0.0,
        packing: false,
        skip_bad_rows: false,
        seed: 42,
        tokens_dir: &job.tokens(),
    };
    data::prepare(&options, &tokenizer, &mut |_| {}).unwrap()
}

#[derive(Deserialize)]
struct Updates {
    optimizer: String,
    start: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    learning_rates: Vec<f64>,
    weight_decay: f64,
    f32: Vec<Vec<f32>>,
}

#[test]
fn optimizers_equal_torch() {
    for updates in golden::json::<Vec<Updates>>("optimizers.json") {
        for entry in OPTIMIZERS.iter().filter(|o| o.name.to_string().contains(&updates.optimizer)) {
            let (len, weight_decay) = (updates.start.len(), updates.weight_decay);
            let mut optimizer = (entry.build)(Parameter { len, weight_decay });
            let mut weights = updates.start.clone();
            let rates = updates.gradients.iter().zip(&updates.learning_rates);
            for (step, ((gradient, &rate), want)) in (1..).zip(rates.zip(&updates.f32)) {
                optimizer.update(&mut weights, gradient, step, rate);
                let apart = golden::largest_difference(&weights, want);
                assert!(
                    apart <= 1e-6,
                    "{}, weight decay {weight_decay}, step {step}: torch gives {want:?}, not {weights:?}",
                    entry.name
                );
            }
        }
    }
}

#[derive(Deserialize)]
struct Rates {
    schedule: String,
    learning_rate: f64,
    steps: u64,
    warmup_ratio: f64,
    rates: Vec<f64>,
}

#[test]
fn learning_rates_equal_transformers() {
    for golden in golden::json::<Vec<Rates>>("schedules.json") {
        let name = &golden.schedule;
        let schedule = SCHEDULES.iter().find(|s| s.name().to_string() == *name).unwrap();
        let span = Span::new(golden.steps, golden.warmup_ratio, golden.learning_rate);
        for (step, want) in (0..).zip(&golden.rates) {
            let got = span.learning_rate(*schedule, step);
            assert!(
                (got - want).abs() <= RATE_TOLERANCE,
                "{name}, warm-up {} of {} steps, step {step}: transformers gives {want}, not {got}",
                golden.warmup_ratio,
                golden.steps
            );
        }
    }
}
