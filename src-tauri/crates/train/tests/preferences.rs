//! Pairs of answers: losses, rewards, gradients and a curve as trl has them, and runs that compare with the base model.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends where its own setup fails; differences are shown"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;
mod support;

use std::{collections::BTreeMap, path::Path};

use candle_core::Device;
use data::{Batch, Encoded, PrepareStats, Prepared, TokenRows};
use golden::Curve;
use models::{CausalLm, LoadOptions, Model, Pass};
use serde::Deserialize;
use serde_json::{Value, json};
use support::{GROUPED, LayerCall, Noise, Watched, adapter_values, config, job, model, shake_adapter};
use train::{
    BatchRun, Checkpoint, GivenBatches, Outcome, TrainRun, backward::Backward, gradients::Gradients, run,
    run_batches, strategies::Dpo,
};
use types::{JobFolder, Phase, Provider, StepStats, TrainEvent, TrainingConfig, engine::Control};

const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Preferences {
    shape: String,
    pairs: Vec<Pair>,
    reference: Vec<[f32; 2]>,
    cases: BTreeMap<String, Case>,
    curve: Curve,
    margins: Vec<f64>,
}

#[derive(Deserialize)]
struct Pair {
    prompt_ids: Vec<u32>,
    chosen_ids: Vec<u32>,
    rejected_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    loss_type: String,
    beta: f64,
    label_smoothing: f64,
    loss: f64,
    metrics: BTreeMap<String, f64>,
}

impl Preferences {
    fn read() -> Self {
        golden::json("preferences/golden.json")
    }

    fn batch(&self, pairs: impl IntoIterator<Item = usize>) -> Batch {
        let mut batch = Batch::default();
        for index in pairs {
            let Pair { prompt_ids, chosen_ids, rejected_ids } = &self.pairs[index];
            let sequence = |answer: &[u32]| {
                let ids = [prompt_ids, answer].concat();
                let trained = (0..ids.len()).map(|i| i >= prompt_ids.len()).collect();
                Encoded { ids, trained, ..Encoded::default() }
            };
            let rejected = Some(Box::new(sequence(rejected_ids)));
            batch.add(&Encoded { rejected, ..sequence(chosen_ids) });
            batch.reference.extend(self.reference[index]);
        }
        batch
    }

    fn load(&self, provider: Provider) -> Box<dyn CausalLm> {
        let options = LoadOptions { bf16: false, provider, device: place::device() };
        let mut model = models::load(&golden::path(&self.shape), &options).unwrap().causal().unwrap();
        model.load_adapter(&golden::path(&self.shape).join("adapter")).unwrap();
        model
    }
}

fn tensors() -> std::collections::HashMap<String, candle_core::Tensor> {
    candle_core::safetensors::load(golden::path("preferences/golden.safetensors"), &Device::Cpu).unwrap()
}

fn numbers(tensor: &candle_core::Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn losses_rewards_and_gradients_are_those_of_trl() {
    let (golden, tensors) = (Preferences::read(), tensors());
    for &provider in Provider::ALL {
        let model = golden.load(provider);
        let trainable = model.trainable();
        for (name, case) in &golden.cases {
            let settings = config(&json!({"strategy": "dpo", "loss_type": case.loss_type, "beta": case.beta,
                "label_smoothing": case.label_smoothing}));
            let strategy = Dpo::new(&settings);
            for checkpointing in [false, true] {
                let backward = Backward {
                    model: model.as_ref(),
                    strategy: &strategy,
                    trainable: &trainable,
                    checkpointing,
                    offload: false,
                };
                let mut gradients = Gradients::zeros(trainable.iter().map(|(_, var)| var.elem_count()));
                let batch = golden.batch(0..golden.pairs.len());
                let pairs = golden.pairs.len() as f64;
                let got = backward.run(&batch, Pass::EVAL, 1.0 / pairs, &mut gradients).unwrap();
                let label = format!("{name}, {provider}, checkpointing {checkpointing}");
                let loss = got.sum / pairs;
                assert!(
                    (loss / case.loss - 1.0).abs() <= TOLERANCE,
                    "{label}: loss {loss}, trl {}",
                    case.loss
                );
                let metrics = got.observed.means();
                for (metric, want) in &case.metrics {
                    let apart = (metrics[metric] - want).abs();
                    assert!(
                        apart <= TOLERANCE * want.abs().max(1.0),
                        "{label}: {metric} {metrics:?}, trl {want}"
                    );
                }
                let mut worst = 0f64;
                for ((tensor, _), gradient) in trainable.iter().zip(gradients.iter()) {
                    let want = numbers(&tensors[&format!("{name}.{tensor}")]);
                    let apart = golden::relative_distance(gradient, &want);
                    assert!(apart <= TOLERANCE, "{label}: the gradient of {tensor} is trl's: {apart:e}");
                    worst = worst.max(apart);
                }
                println!("{label}: loss {:.1e}, gradients {worst:.1e}", (loss / case.loss - 1.0).abs());
            }
        }
    }
}

#[test]
fn a_curve_is_that_of_trl() {
    let (golden, tensors) = (Preferences::read(), tensors());
    for &provider in Provider::ALL {
        let (model, curve) = (golden.load(provider), &golden.curve);
        let settings = config(
            &json!({"strategy": "dpo", "optim": "adamw_torch", "lr_scheduler_type": curve.schedule,
            "learning_rate": curve.learning_rate, "warmup_ratio": curve.warmup_ratio, "weight_decay": curve.weight_decay,
            "max_grad_norm": curve.max_grad_norm, "eval_split": 0.0}),
        );
        let micro_batches =
            |plan: &Vec<Vec<usize>>| plan.iter().map(|pairs| golden.batch(pairs.iter().copied())).collect();
        let mut batches =
            GivenBatches { steps: curve.plan.iter().map(micro_batches).collect(), eval: Vec::new() };
        let (_guard, job) = job();
        let mut steps = Vec::new();
        let run = BatchRun {
            model: model.as_ref(),
            batches: &mut batches,
            config: &settings,
            job: &job,
            resume: None,
            answers: None,
        };
        let sink = &mut |event| {
            if let TrainEvent::Step(stats) = event {
                steps.push(stats);
            }
        };
        assert!(matches!(run_batches(run, sink, &|| None), Ok(Outcome::Finished(_))));
        assert_eq!(steps.len(), curve.losses.len());
        for (i, step) in steps.iter().enumerate() {
            let margin = step.metrics["rewards/margins"];
            let apart = [
                step.loss / curve.losses[i] - 1.0,
                step.grad_norm / curve.grad_norms[i] - 1.0,
                (margin - golden.margins[i]) / golden.margins[i].abs().max(1.0),
            ];
            let worst = apart.iter().fold(0f64, |worst, apart| worst.max(apart.abs()));
            assert!(
                worst <= TOLERANCE,
                "{provider}, step {}: loss, norm and margin are off by {apart:?}",
                i + 1
            );
        }
        for (tensor, var) in model.trainable() {
            let apart =
                golden::relative_distance(&numbers(&var), &numbers(&tensors[&format!("curve.{tensor}")]));
            assert!(apart <= TOLERANCE, "{provider}: {tensor} after the last step is trl's: {apart:e}");
        }
    }
}

/// Rows whose better answer has one token over and over, the worse one another.
fn prepared(folder: &Path) -> Prepared {
    let rows = |name: &str, count: usize, seed: u64| {
        let mut noise = Noise::new(seed);
        let row = || {
            let prompt: Vec<u32> =
                (0..3 + noise.below(4)).map(|_| noise.below(GROUPED.vocab) as u32).collect();
            let mut sequence = |token: u32| {
                let ids = [prompt.clone(), vec![token; 2 + noise.below(5)]].concat();
                Encoded {
                    trained: (0..ids.len()).map(|i| i >= prompt.len()).collect(),
                    ids,
                    ..Encoded::default()
                }
            };
            Encoded { rejected: Some(Box::new(sequence(5))), ..sequence(7) }
        };
        let rows: Vec<Encoded> = std::iter::repeat_with(row).take(count).collect();
        TokenRows::create(&folder.join(name), rows).unwrap()
    };
    let stats = PrepareStats::default();
    Prepared {
        train: rows("train.tokens", 12, 1),
        eval: rows("eval.tokens", 6, 2),
        stats,
        max_seq_length: 16,
    }
}

fn settings(changes: &Value) -> TrainingConfig {
    let mut all = json!({"strategy": "dpo", "max_steps": 12, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "eval_steps": 6, "save_steps": 4, "learning_rate": 0.02, "lora_dropout": 0.1});
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config(&all)
}

fn train(
    model: &dyn Model,
    config: &TrainingConfig,
    job: &JobFolder,
    resume: bool,
    control: &dyn Fn() -> Option<Control>,
) -> (Outcome, Vec<TrainEvent>) {
    let data = prepared(job.path());
    let mut events = Vec::new();
    let resume = resume.then(|| Checkpoint::newest(job, config).unwrap().unwrap());
    let run_of = TrainRun { model, data: &data, config, job, resume, answers: None };
    let outcome = run(run_of, &mut |event| events.push(event), control).unwrap();
    (outcome, events)
}

fn steps(events: &[TrainEvent]) -> Vec<&StepStats> {
    events.iter().filter_map(|e| if let TrainEvent::Step(stats) = e { Some(stats) } else { None }).collect()
}

fn phases(events: &[TrainEvent], wanted: Phase) -> usize {
    events.iter().filter(|event| **event == TrainEvent::Phase { phase: wanted }).count()
}

#[test]
fn every_loss_tells_the_better_answer_after_a_few_steps() {
    for loss_type in ["sigmoid", "ipo", "orpo", "kto"] {
        let model = model(&GROUPED, 8, 0.1);
        let (_guard, job) = job();
        let config = settings(&json!({"loss_type": loss_type, "max_steps": 30}));
        let (outcome, events) = train(model.as_ref(), &config, &job, false, &|| None);
        let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
        let of = |name: &str| (summary.base_metrics[name], summary.metrics[name]);
        assert!(of("rewards/accuracies").1 > 0.9, "{loss_type}: {:?}", of("rewards/accuracies"));
        assert!(of("rewards/margins").1 > of("rewards/margins").0, "{loss_type}");
        assert!(!summary.metrics.contains_key("perplexity"), "the loss is no likelihood");
        let first = &steps(&events)[0].metrics;
        let names: Vec<&str> = first.keys().map(String::as_str).collect();
        let want =
            ["logps/chosen", "logps/rejected", "rewards/accuracies", "rewards/chosen", "rewards/margins"];
        assert_eq!(names, [want.as_slice(), &["rewards/rejected"]].concat(), "named as trl's");
        assert_eq!(phases(&events, Phase::Reference), usize::from(loss_type != "orpo"), "orpo needs none");
        if loss_type == "sigmoid" {
            let base = &summary.base_metrics;
            assert!(
                (base["eval_loss"] - 2f64.ln()).abs() < 1e-6,
                "the base is as far from itself as nothing"
            );
            assert!(base["rewards/margins"].abs() < 1e-5);
        }
    }
}

#[test]
fn the_base_model_is_asked_once_with_the_adapter_off_and_a_resumed_run_goes_on_the_same() {
    let config = settings(&json!({}));
    let whole = model(&GROUPED, 8, 0.1);
    let (_guard, job_of_whole) = job();
    let (_, want) = train(whole.as_ref(), &config, &job_of_whole, false, &|| None);

    let (_guard, job) = job();
    let first = model(&GROUPED, 8, 0.1);
    let pause = || job.checkpoint(4).exists().then_some(Control::Pause);
    let (outcome, before) = train(first.as_ref(), &config, &job, false, &pause);
    let Outcome::Stopped { step, .. } = outcome else { panic!("{outcome:?}") };
    assert!(step > 0 && step < 12, "paused on the way, after {step}");
    assert_eq!(phases(&before, Phase::Reference), 1);

    let again = model(&GROUPED, 8, 0.1);
    let watched = Watched::new(again.as_ref());
    let (_, after) = train(&watched, &config, &job, true, &|| None);
    assert_eq!(phases(&after, Phase::Reference), 0, "what is known is not computed again");
    let on = |call: &LayerCall| call.pass.adapter;
    assert!(watched.take_calls().iter().all(on), "the base is not asked again");
    let number = |stats: &StepStats| (stats.step, stats.loss.to_bits(), stats.metrics.clone());
    let got: Vec<_> = steps(&before).into_iter().chain(steps(&after)).map(number).collect();
    assert_eq!(got, steps(&want).into_iter().map(number).collect::<Vec<_>>(), "step by step, to the bit");
    assert_eq!(adapter_values(again.as_ref()), adapter_values(whole.as_ref()));
}

#[test]
fn what_was_computed_of_other_rows_or_is_damaged_is_computed_again() {
    let config = settings(&json!({"max_steps": 1}));
    let (_guard, job) = job();
    let reference = job.path().join("reference.safetensors");
    let computed = || {
        let model = model(&GROUPED, 8, 0.1);
        shake_adapter(model.as_ref(), 0.3);
        let (_, events) = train(model.as_ref(), &config, &job, false, &|| None);
        std::fs::remove_dir_all(job.checkpoint(1)).unwrap();
        (phases(&events, Phase::Reference), std::fs::read(&reference).unwrap())
    };
    let (first, whole) = computed();
    let (second, same) = computed();
    assert_eq!((first, second, whole == same), (1, 0, true), "known the second time");
    types::files::write(&reference, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(computed(), (1, whole.clone()), "half a file is made again, to the same numbers");
    types::files::write_json(&job.inputs(), &json!({"dataset": "another"})).unwrap();
    assert_eq!(computed().0, 1, "of other files");
}

#[test]
fn a_pause_while_the_base_model_is_asked_leaves_nothing_half_done() {
    let config = settings(&json!({}));
    let (_guard, job) = job();
    let model = model(&GROUPED, 8, 0.1);
    let (outcome, events) = train(model.as_ref(), &config, &job, false, &|| Some(Control::Pause));
    assert_eq!(outcome, Outcome::Stopped { step: 0, checkpoint: None });
    assert!(matches!(events.last(), Some(TrainEvent::Stopped { step: 0, .. })));
    assert!(!job.path().join("reference.safetensors").exists());
}

#[test]
fn packed_pairs_stay_together() {
    let model = model(&GROUPED, 8, 0.1);
    let (_guard, job) = job();
    let config = settings(&json!({"packing": true, "max_seq_length": 40, "max_steps": 3}));
    let watched = Watched::new(model.as_ref());
    let (outcome, _) = train(&watched, &config, &job, false, &|| None);
    assert!(matches!(outcome, Outcome::Finished(_)));
    assert!(watched.take_calls().iter().all(|call| call.lengths.len() % 2 == 0), "both answers in one pass");
}
